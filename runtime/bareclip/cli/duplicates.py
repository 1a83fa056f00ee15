"""bareclip duplicates: photos of an index that show nearly the same, and which to keep."""

import dataclasses
from itertools import chain
from pathlib import Path

import click
from tqdm import tqdm

from .. import Duplicate, DuplicateGroup, Index
from ..files import is_own, replacing
from ..index.filters import Filters
from ..show.page import dimensions, duplicates_page, megabytes
from .options import check_output, db_argument, filter_options, json_option
from .output import note, print_table, say, say_json

# Each is a small JPEG of some 10 KB within the page.
_MOST_PICTURES = 2000


@click.command()
@db_argument
@click.option(
    "--threshold",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="How similar, as a cosine; lower finds more that only look alike.",
)
@filter_options
@click.option("--html", "page_path", type=click.Path(path_type=Path), help="Write a page, a .html.")
@json_option
def duplicates(
    db: Path, threshold: float, filters: Filters, page_path: Path | None, as_json: bool
) -> None:
    """Finds photos of DB, an index, that are nearly the same: resaved, resized, cropped.

    In each group the first, with the most pixels, is the one to keep; the others' similarity is
    with that. Nothing is deleted.

    \b
    bareclip duplicates photos.db --html duplicates.html
    bareclip duplicates photos.db --threshold 0.9 --after 2024-06 --json
    """
    check_output(page_path, ".html")
    with Index.open(db) as index, tqdm(unit="photo", disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        groups = list(index.duplicates(threshold, **filters, report=show))
    if page_path is not None:
        shown = _first_groups(groups)
        heading = (
            _summary(groups)
            if len(shown) == len(groups)
            else (f"{_summary(groups)}; here the first {len(shown)}")
        )
        with replacing(page_path) as file:
            file.write(duplicates_page(shown, heading, anything=is_own(db)).encode())
        if len(shown) < len(groups):
            note(f"{page_path} shows the first {len(shown)} of {len(groups)} groups; all: --json")
    if as_json:
        say_json([dataclasses.asdict(group) for group in groups])
        return
    if groups:
        rows = chain.from_iterable(
            _rows(number, group) for number, group in enumerate(groups, start=1)
        )
        print_table(["group", "similarity", "pixels", "size", "item"], list(rows), right=0)
    say(_summary(groups))


def _first_groups(groups: list[DuplicateGroup]) -> list[DuplicateGroup]:
    pictures = 0
    for number, group in enumerate(groups):
        pictures += 1 + len(group.others)
        if pictures > _MOST_PICTURES and number:
            return groups[:number]
    return groups


def _summary(groups: list[DuplicateGroup]) -> str:
    others = sum(len(group.others) for group in groups)
    saved = megabytes(sum(group.saves for group in groups))
    if not groups:
        return "no two photos are so similar"
    return f"{len(groups)} groups; beside those to keep, {others} photos of {saved}"


def _rows(number: int, group: DuplicateGroup) -> list[list[str]]:
    return [
        _row(str(number), "keep", group.keep),
        *(
            _row(
                "", "same file" if _is_same(other, group.keep) else f"{other.similarity:.3f}", other
            )
            for other in group.others
        ),
    ]


def _is_same(one: Duplicate, other: Duplicate) -> bool:
    return one.sha256 is not None and one.sha256 == other.sha256


def _row(number: str, note: str, photo: Duplicate) -> list[str]:
    return [number, note, dimensions(photo), megabytes(photo.size), photo.item]

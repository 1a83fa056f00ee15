"""bareclip search: photos of an index, by text or picture."""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import click

from .. import BareclipError, Clip, DeviceError, Index, IndexHit, Like, Mix, load
from ..files import is_own, replacing
from ..images.folders import is_image_name
from ..index.filters import FILTERS, Filters
from ..show.page import Answer, page, sheet
from .download import is_address
from .options import (
    check_not_given,
    check_output,
    device_option,
    filter_options,
    index_bundle_option,
    json_option,
    language_option,
    load_indexed,
    threads_option,
)
from .output import print_table, say, say_json
from .sources import expand
from .standard_input import check_once, lines_of, with_lines

# The shell leaves the star alone, where no file is named so.
_WEIGHTED = re.compile(r"(\d+\.?\d*|\.\d+)\*(.+)", re.DOTALL)


@click.command()
@click.argument("db")
@click.argument("texts", nargs=-1)
@click.option("--image", "images", multiple=True, help="A file, an http(s) address, or -.")
@click.option("--queries", metavar="FILE", help="A text file with one text per line, or -.")
@click.option(
    "-k", default=10, show_default=True, type=click.IntRange(min=1), help="How many at most."
)
@click.option("--like", "likes", multiple=True, metavar="ITEM", help="A photo in DB, or an id.")
@click.option(
    "--plus",
    "pluses",
    multiple=True,
    metavar="[WEIGHT*]WHAT",
    help="Add a text, a picture's file or an http(s) address to each question, as 0.5*dusk.",
)
@click.option(
    "--minus", "minuses", multiple=True, metavar="[WEIGHT*]WHAT", help="Lead away from it."
)
@filter_options
@click.option(
    "--diverse",
    type=click.FloatRange(0, 1, max_open=True),
    default=0,
    help="Spread the hits out; 0.3 is a little, 0.7 much.",
)
@click.option("--min-similarity", type=float, help="Only those at least so similar.")
@click.option("--approximate", is_flag=True, help="Ask an HNSW graph; for millions of photos.")
@click.option(
    "--sheet", "sheet_path", type=click.Path(path_type=Path), help="Write a contact sheet, a .png."
)
@click.option("--html", "page_path", type=click.Path(path_type=Path), help="Write a page, a .html.")
@json_option
@index_bundle_option
@device_option
@threads_option
@language_option
def search(
    db: str,
    texts: tuple[str, ...],
    images: tuple[str, ...],
    queries: str | None,
    likes: tuple[str, ...],
    pluses: tuple[str, ...],
    minuses: tuple[str, ...],
    k: int,
    filters: Filters,
    diverse: float,
    min_similarity: float | None,
    approximate: bool,
    sheet_path: Path | None,
    page_path: Path | None,
    as_json: bool,
    bundle: str | None,
    device: str,
    threads: int | None,
    language: str | None,
) -> None:
    """Finds the photos of DB, an index, that are most similar to TEXTS or pictures.

    Each of TEXTS, --image and --like is a question of its own; --plus and --minus change all. --tag
    without a question lists the photos that have that label, the most probable first.

    DB may also be a run's folder, as `bareclip shards run` fills it.

    One of TEXTS, --queries and --image may be - for standard input: texts, one per line, or a
    picture.

    \b
    bareclip search photos.db "a sunset over the ocean" -k 9 --sheet result.png
    bareclip search photos.db --image beach.jpg --json
    bareclip search photos.db "a sunset over the ocean" --tag beach
    bareclip search photos.db beach --plus 0.5*dusk --minus people --after 2024-06 --diverse 0.3
    bareclip search OUT "a sunset over the ocean" --bundle clip-b32
    """
    check_output(sheet_path, ".png")
    check_output(page_path, ".html")
    check_once([*texts, queries, *images])
    named = with_lines(texts) + (lines_of(queries) if queries else [])
    asked: list[tuple[str, Any]] = [(text, text) for text in named]
    asked += [(source.name, source.image) for image in images for source in expand([image])]
    asked += [(like, Like(like)) for like in likes]
    changes = [_part(text, 1) for text in pluses] + [_part(text, -1) for text in minuses]
    tag = filters["tag"]
    if not asked and not pluses and (minuses or tag is None):
        raise click.UsageError(
            'nothing to search for: give a "text", --image, --like, --plus or --tag.'
        )
    if changes:
        asked = [_mixed([("", 1.0, *one)], changes) for one in asked] or [_mixed([], changes)]
    rows = [query for _, query in asked]
    if _is_run(db):
        choosing = ", ".join(f"--{name}" for name in FILTERS)
        for_an_index = (*filters.values(), diverse, likes, approximate, sheet_path, page_path)
        if any(for_an_index):
            raise click.UsageError(
                f"--like, {choosing}, --diverse, --approximate, --sheet and --html are for an "
                "index, and DB is a run."
            )
        clip = _model_of_run(db, bundle, device, threads, language)
        found = _in_run(db, rows, k, min_similarity, clip)
        answers = [Answer(name, hits) for (name, _), hits in zip(asked, found, strict=True)]
        _print(answers, as_json, "similarity")
        return
    path = Path(db)
    if asked:
        Index.open(path).close()  # a mistyped name is said before a model is asked for
        # What was indexed has its vector.
        embeds = not all(isinstance(query, Like) for query in rows)
        model = (path, bundle, None, None, device, threads)
        with Index.open(path, load_indexed(*model, language=language) if embeds else None) as index:
            found = index.search_many(
                rows,
                k=k,
                min_similarity=min_similarity,
                diverse=diverse,
                approximate=approximate,
                **filters,
            )
        answers = [Answer(name, hits) for (name, _), hits in zip(asked, found, strict=True)]
    else:
        assert tag is not None, "else there was nothing to search for"
        check_not_given("--tag alone", "min_similarity", "diverse", "approximate")
        others: Any = {name: value for name, value in filters.items() if name != "tag"}
        with Index.open(path) as index:
            answers = [Answer(tag, index.tagged(tag, k=k, **others))]
    if sheet_path is not None:
        with replacing(sheet_path) as file:
            sheet(answers, anything=is_own(path)).save(file, "PNG")
    if page_path is not None:
        with replacing(page_path) as file:
            file.write(page(answers, anything=is_own(path)).encode())
    _print(answers, as_json, "similarity" if asked else "probability")


# What stands before its name, its weight, its name, and what is asked.
_Part = tuple[str, float, str, Any]


def _part(text: str, sign: int) -> _Part:
    """What --plus or --minus says: a picture if there is one of that name, else a text.

    Raises:
        BareclipError: It is named as a picture, and there is none.
    """
    found = _WEIGHTED.fullmatch(text)
    weight, what = (float(found[1]), found[2]) if found else (1.0, text)
    # Not Path.is_file(), which raises where a text is too long to be a name.
    if is_address(what) or os.path.isfile(what):  # noqa: PTH113
        asked: Any = expand([what])[0].image
    elif is_image_name(what):
        raise BareclipError(
            f"there is no file {what[:60]!r}; --plus and --minus want one, or a text"
        )
    else:
        asked = what
    return ("+" if sign > 0 else "-"), sign * weight, text, asked


def _mixed(first: list[_Part], changes: list[_Part]) -> tuple[str, Mix]:
    """Several parts as one question, and what it is called."""
    parts = first + changes
    name = " ".join(f"{sign} {text}" for sign, _, text, _ in parts).strip()
    return name.removeprefix("+ "), Mix(*((asked, weight) for _, weight, _, asked in parts))


def _is_run(db: str) -> bool:
    return "://" in db or Path(db, "run.json").is_file()


def _model_of_run(
    db: str, bundle: str | None, device: str, threads: int | None, language: str | None
) -> Clip:
    from ..shards import Plan
    from ..shards.model import read_model

    model = read_model(Plan.read(db))  # a mistyped name is said before a model is asked for
    load_as = partial(load, bundle, device=device, threads=threads, language=language)
    if model is None:
        return load_as()  # which has nothing to search in
    if bundle is None and model.model != load().bundle.name:
        raise BareclipError(
            f"{db} was made with {model.model}, and does not say where that is: give --bundle"
        )
    try:
        return load_as(precision={"vision": model.precision}, reading=model.reading)
    except DeviceError:
        return load_as(reading=model.reading)  # a run of fp16 can be asked by text anywhere


def _in_run(
    db: str, queries: list[Any], k: int, min_similarity: float | None, clip: Clip
) -> list[list[IndexHit]]:
    from ..shards import search as search_run

    least = -2.0 if min_similarity is None else min_similarity
    return [
        [IndexHit(hit.item, hit.similarity, None) for hit in hits if hit.similarity >= least]
        for hits in search_run(db, queries, clip, k=k)
    ]


def _print(answers: list[Answer], as_json: bool, measure: str) -> None:
    if as_json:
        say_json(
            [
                {
                    "query": answer.query,
                    "hits": [
                        {"item": hit.item, measure: hit.similarity, "metadata": hit.metadata}
                        for hit in answer.hits
                    ],
                }
                for answer in answers
            ]
        )
        return
    for number, answer in enumerate(answers):
        if len(answers) > 1:
            say(*[""] * (number > 0), answer.query)
        if not answer.hits:
            say("nothing found")
            continue
        rows = [
            [str(rank), f"{hit.similarity:.3f}", hit.item]
            for rank, hit in enumerate(answer.hits, start=1)
        ]
        print_table(["rank", measure, "item"], rows, right=0)

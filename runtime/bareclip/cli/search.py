"""bareclip search: photos of an index, by text or picture."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from .. import BareclipError, Clip, DeviceError, Index, IndexHit, load
from ..files import is_own, replacing
from ..show.page import Answer, page, sheet
from .options import (
    check_not_given,
    device_option,
    index_bundle_option,
    json_option,
    language_option,
    load_indexed,
    threads_option,
)
from .output import print_table, say, say_json
from .sources import expand
from .standard_input import check_once, lines_of, with_lines


@click.command()
@click.argument("db")
@click.argument("texts", nargs=-1)
@click.option("--image", "images", multiple=True, help="A file, an http(s) address, or -.")
@click.option("--queries", metavar="FILE", help="A text file with one text per line, or -.")
@click.option(
    "-k", default=10, show_default=True, type=click.IntRange(min=1), help="How many at most."
)
@click.option("--under", help="Only files whose path begins with this.")
@click.option("--tag", help="Only photos that bareclip tag gave this label; alone, all of those.")
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
    k: int,
    under: str | None,
    tag: str | None,
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

    DB may also be a run's folder, as `bareclip shards run` fills it.

    One of TEXTS, --queries and --image may be - for standard input: texts, one per line, or a
    picture.

    \b
    bareclip search photos.db "a sunset over the ocean" -k 9 --sheet result.png
    bareclip search photos.db --image beach.jpg --json
    bareclip search photos.db "a sunset over the ocean" --tag beach
    bareclip search OUT "a sunset over the ocean" --bundle clip-b32
    """
    _check_output(sheet_path, ".png")
    _check_output(page_path, ".html")
    check_once([*texts, queries, *images])
    named = with_lines(texts) + (lines_of(queries) if queries else [])
    asked: list[tuple[str, Any]] = [(text, text) for text in named]
    asked += [(source.name, source.image) for image in images for source in expand([image])]
    if not asked and tag is None:
        raise click.UsageError('nothing to search for: give a "text", --image, --queries or --tag.')
    rows = [query for _, query in asked]
    if _is_run(db):
        if under or tag or approximate or sheet_path or page_path:
            raise click.UsageError(
                "--under, --tag, --approximate, --sheet and --html are for an index, and DB is a "
                "run."
            )
        clip = _model_of_run(db, bundle, device, threads, language)
        found = _in_run(db, rows, k, min_similarity, clip)
        answers = [Answer(name, hits) for (name, _), hits in zip(asked, found, strict=True)]
        _print(answers, as_json, "similarity")
        return
    path = Path(db)
    if asked:
        Index.open(path).close()  # a mistyped name is said before a model is asked for
        clip = load_indexed(path, bundle, None, None, device, threads, language=language)
        with Index.open(path, clip) as index:
            found = index.search_many(
                rows,
                k=k,
                under=under,
                min_similarity=min_similarity,
                approximate=approximate,
                tag=tag,
            )
        answers = [Answer(name, hits) for (name, _), hits in zip(asked, found, strict=True)]
    else:
        assert tag is not None, "else there was nothing to search for"
        check_not_given("--tag alone", "under", "min_similarity", "approximate")
        with Index.open(path) as index:
            answers = [Answer(tag, index.tagged(tag, k=k))]
    if sheet_path is not None:
        with replacing(sheet_path) as file:
            sheet(answers, anything=is_own(path)).save(file, "PNG")
    if page_path is not None:
        with replacing(page_path) as file:
            file.write(page(answers, anything=is_own(path)).encode())
    _print(answers, as_json, "similarity" if asked else "probability")


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


def _check_output(path: Path | None, ending: str) -> None:
    if path is not None and (path.suffix != ending or not path.parent.is_dir()):
        raise BareclipError(f"cannot write {path}: give a {ending} file in a folder that exists")


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

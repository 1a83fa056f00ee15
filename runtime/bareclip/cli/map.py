"""bareclip map: a collection as a picture with clusters, to look around in."""

from pathlib import Path

import click
from tqdm import tqdm

from .. import Index
from ..files import is_own, replacing
from ..index.filters import Filters
from ..show.map import map_page
from .options import (
    check_output,
    db_argument,
    device_option,
    filter_options,
    index_bundle_option,
    json_option,
    labels_of,
    language_option,
    load_indexed,
    threads_option,
)
from .output import print_table, say, say_json


@click.command(name="map")
@db_argument
@click.option(
    "--html",
    "page_path",
    type=click.Path(path_type=Path),
    default=Path("map.html"),
    show_default=True,
    help="The page to write, a .html.",
)
@click.option(
    "--labels",
    help="Names for clusters: a file with one per line, or with commas between them. Default: some "
    "250 of things that photos show.",
)
@click.option(
    "--clusters", type=click.IntRange(min=1), help="How many. Default: by the number of photos."
)
@click.option(
    "--points",
    default=20_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many photos at most; of more, a sample.",
)
@filter_options
@json_option
@index_bundle_option
@device_option
@threads_option
@language_option
def map_(
    db: Path,
    page_path: Path,
    labels: str | None,
    clusters: int | None,
    points: int,
    filters: Filters,
    as_json: bool,
    bundle: str | None,
    device: str,
    threads: int | None,
    language: str | None,
) -> None:
    """Draws the photos of DB, an index, as a map: similar ones near each other, clusters named.

    The page holds its thumbnails and works offline. Needs bareclip[map].

    \b
    bareclip map photos.db --html map.html
    bareclip map photos.db --labels "beach,mountains,city,people" --clusters 12
    bareclip map photos.db --after 2024 --tag beach
    """
    check_output(page_path, ".html")
    names = None if labels is None else labels_of(labels)
    Index.open(db).close()  # a mistyped name is said before a model is asked for
    clip = load_indexed(db, bundle, None, None, device, threads, language=language)
    with Index.open(db, clip) as index:
        overview = index.overview(names, clusters=clusters, points=points, **filters)
    with (
        tqdm(total=len(overview.points), unit="photo", disable=None, leave=False) as bar,
        replacing(page_path) as file,
    ):

        def show(done: int) -> None:
            bar.update(done - bar.n)

        page = map_page(overview, str(db), anything=is_own(db), report=show)
        file.write(page.encode())
    counts = [0] * len(overview.clusters)
    for point in overview.points:
        counts[point.cluster] += 1
    found = list(zip(overview.clusters, counts, strict=True))
    if as_json:
        say_json(
            {
                "photos": len(overview.points),
                "total": overview.total,
                "clusters": [{"name": name, "photos": count} for name, count in found],
            }
        )
        return
    print_table(["cluster", "photos"], [[name, str(count)] for name, count in found])
    say(f"{len(overview.points)} of {overview.total} photos are on {page_path}")

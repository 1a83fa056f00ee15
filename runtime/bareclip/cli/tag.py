"""bareclip tag: labels for the photos of an index, from the vectors that it has."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from .. import Index, StoreError, Tagged, load_classifier
from ..files import is_own
from ..index.filters import Filters
from ..index.sidecars import write_sidecar
from ..index.tagging import DEFAULT_THRESHOLD
from .options import (
    check_not_given,
    classifier_option,
    db_argument,
    device_option,
    filter_options,
    index_bundle_option,
    json_option,
    labels_of,
    language_option,
    load_indexed,
    templates_argument,
    threads_option,
)
from .output import note, say, say_json_items


@click.command()
@db_argument
@click.option(
    "--labels",
    help='Such as "beach,city", or a text file with one per line, or - for standard input. '
    "Without: those it was tagged with last.",
)
@classifier_option
@click.option("--templates", default="plain", show_default=True, help="As for classify.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help=f"Tag with labels at least so probable; of more than ten, the ten most are taken. "
    f"Default: {DEFAULT_THRESHOLD}, or the one it was tagged with last.",
)
@click.option("--xmp", is_flag=True, help="Write the tags into an XMP sidecar beside each photo.")
@filter_options
@json_option
@index_bundle_option
@device_option
@threads_option
@language_option
def tag(
    db: Path,
    labels: str | None,
    saved: Path | None,
    templates: str,
    threshold: float | None,
    xmp: bool,
    filters: Filters,
    as_json: bool,
    bundle: str | None,
    device: str,
    threads: int | None,
    language: str | None,
) -> None:
    """Tags the photos of DB, an index, with the labels that fit; no photo is read again.

    DB remembers the labels: what is indexed later is tagged too. Then: bareclip search --tag.
    Sidecars of other programs are left as they are. All photos are tagged; --under, --tag, --after
    and --before choose which --json prints and --xmp writes beside.

    \b
    bareclip tag photos.db --labels "beach,city,mountains,a receipt"
    bareclip tag photos.db --classifier pets.npz --threshold 0.5 --json
    bareclip tag photos.db --xmp --under ~/Photos/2024
    """
    if labels is not None and saved is not None:
        raise click.UsageError("give --labels or --classifier, not both.")
    if any(filters.values()) and not (xmp or as_json):
        raise click.UsageError(
            "filters choose what --json prints or --xmp writes; give one of them."
        )
    if labels is None:
        check_not_given("without --labels, the command", "templates")
    if xmp and db.exists() and not is_own(db):
        raise StoreError(
            f"{db} is not yours alone, and might name any file to write a sidecar beside; copy it "
            "to a file of your own if you trust it"
        )
    Index.open(db).close()  # a mistyped name is said before anything is loaded
    classifier = None if saved is None else load_classifier(saved)
    if labels is not None:
        names, chosen = labels_of(labels), templates_argument(templates)
        clip = load_indexed(db, bundle, None, None, device, threads, language=language)
        classifier = clip.classifier(names, templates=chosen)
    with Index.open(db) as index:
        report = index.tag(classifier, threshold=threshold)
        if xmp:
            _write_sidecars(index.tags(**filters))
        if as_json:
            say_json_items(_described(index.tags(**filters)))
            return
    say(f"{report.items} photos and vectors: {report.tagged} tagged, with {report.tags} tags")


def _described(found: Iterable[Tagged]) -> Iterator[dict[str, Any]]:
    for one in found:
        tags = [{"label": tag.label, "probability": tag.probability} for tag in one.tags]
        yield {"item": one.item, "tags": tags}


def _write_sidecars(found: Iterable[Tagged]) -> None:
    outcomes: Counter[str] = Counter()
    for one in found:
        # An id that was imported may be the path of anything.
        labels = [tag.label for tag in one.tags]
        outcome = "gone" if one.sha256 is None else write_sidecar(one.item, labels)
        outcomes[outcome] += 1
        if outcome == "foreign":
            note(f"kept: {one.item}.xmp, which another program wrote or added to")
    note(
        f"sidecars: {outcomes['written']} written, {outcomes['removed']} removed, "
        f"{outcomes['unchanged']} as they were, {outcomes['foreign']} of other programs kept; "
        f"{outcomes['gone']} items are no files"
    )

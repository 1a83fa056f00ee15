"""bareclip index, index-status, index-export and index-import: a folder of photos, searchable."""

import dataclasses
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from tqdm import tqdm

from .. import Index, IndexStatus, StoreError, SyncProgress, SyncReport
from ..images.heif import EXTRA, NEEDS_EXTRA
from .options import (
    db_argument,
    device_option,
    exclude_option,
    index_bundle_option,
    json_option,
    load_indexed,
    max_pixels_option,
    threads_option,
)
from .output import print_pairs, say, say_json
from .sources import note_left_out

Verb = TypeVar("Verb", bound=Callable[..., Any])

_vectors_argument = click.argument("file", type=click.Path(path_type=Path))


def _made_with(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a verb the options that are of an index for good."""
    for option in (
        click.option("--exact", is_flag=True, help="For a new index: decode large JPEGs whole."),
        click.option(
            "--read",
            type=click.Choice(["as-seen", "as-stored"]),
            help="For a new index: as for classify.",
        ),
        click.option("--precision", help="For a new index: as for classify."),
        index_bundle_option,
    ):
        verb = option(verb)
    return verb


def _moved(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    """Names the command that took the place of an option."""
    if value is not None:
        verb = f"index-{option.name}"
        files = shlex.quote(value) if option.name == "status" else f"DB {shlex.quote(value)}"
        raise click.UsageError(f"bareclip {verb} {files} took the place of {option.opts[0]}.")


def _moved_option(name: str) -> Callable[[Verb], Verb]:
    return click.option(name, hidden=True, expose_value=False, is_eager=True, callback=_moved)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--db",
    required=True,
    type=click.Path(path_type=Path),
    help="The index, such as photos.db; made where there is none.",
)
@exclude_option
@click.option(
    "--prune", is_flag=True, help="Forget what is not found, even if FOLDER or a disk is missing."
)
@_made_with
@device_option
@threads_option
@max_pixels_option
@json_option
@_moved_option("--status")
@_moved_option("--export")
@_moved_option("--import")
def index(
    folder: Path,
    db: Path,
    exclude: tuple[str, ...],
    prune: bool,
    exact: bool,
    bundle: str | None,
    precision: str | None,
    read: str | None,
    device: str,
    threads: int | None,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Indexes the photos in FOLDER and below; run again, only what has changed.

    \b
    bareclip index ~/Photos --db photos.db --bundle clip-b32
    bareclip index ~/Photos --db photos.db --exclude "*.png" --exclude 2019/raw
    """
    clip = load_indexed(db, bundle, precision, read, device, threads, max_pixels)
    # Pillow warns of odd files, line by line; what matters of that is in the status.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with (
        Index.open(db, clip, exact=exact or None) as opened,
        tqdm(unit="photo", disable=None, leave=False) as bar,
    ):

        def show(progress: SyncProgress) -> None:
            bar.total = progress.total
            bar.set_postfix(failed=progress.failed, refresh=False)
            bar.update(progress.done - bar.n)

        report = opened.sync(folder, prune=prune, report=show, exclude=exclude)
        failures = opened.status().failures
    note_left_out(report.left_out, exclude)
    if as_json:
        say_json(dataclasses.asdict(report))
    else:
        _print_report(report, db)
        heic = sum(failure.reason == NEEDS_EXTRA for failure in failures)
        if heic:
            say(f"{heic} are HEIC pictures: pip install '{EXTRA}', and run this again")
    if report.unreadable:
        first = report.unreadable[0]
        raise StoreError(
            f"{len(report.unreadable)} folders could not be read, first {first.path}: "
            f"{first.reason}; what was known of them is kept, the rest is indexed"
        )


@click.command()
@db_argument
@json_option
def index_status(db: Path, as_json: bool) -> None:
    """Says what DB, an index, holds: counts, its model, and which files failed, and why.

    \b
    bareclip index-status photos.db
    """
    with Index.open(db) as opened:
        status = opened.status()
    if as_json:
        described: dict[str, Any] = dataclasses.asdict(status)
        say_json(described | {"path": str(status.path)})
    else:
        _print_status(status)


@click.command()
@db_argument
@_vectors_argument
@json_option
def index_export(db: Path, file: Path, as_json: bool) -> None:
    """Writes the vectors of DB, an index, to FILE, a .parquet or a .npy, for other systems.

    \b
    bareclip index-export photos.db vectors.parquet
    """
    with Index.open(db) as opened:
        count = opened.export_to(file)
    say_json({"vectors": count}) if as_json else say(f"{count} vectors written to {file}")


@click.command()
@db_argument
@_vectors_argument
@_made_with
@json_option
def index_import(
    db: Path,
    file: Path,
    bundle: str | None,
    precision: str | None,
    read: str | None,
    exact: bool,
    as_json: bool,
) -> None:
    """Adds the vectors of FILE, as index-export writes them, to DB, which is made if need be.

    \b
    bareclip index-import photos.db vectors.parquet
    bareclip index-import new.db vectors.npy --bundle clip-b32
    """
    clip = load_indexed(db, bundle, precision, read, "auto", None)
    with Index.open(db, clip, exact=exact or None) as opened:
        count = opened.import_from(file)
    say_json({"vectors": count}) if as_json else say(f"{count} vectors added to {db}")


def _print_report(report: SyncReport, db: Path) -> None:
    counts = [
        f"{count} {name}"
        for name in ("added", "changed", "renamed", "removed", "unchanged")
        if (count := getattr(report, name)) or name in ("added", "unchanged")
    ]
    say(", ".join(counts))
    if report.kept:
        say(
            f"{report.kept} not found but kept: what they lay on may be away; "
            "to forget them: --prune"
        )
    if report.failures:
        say(f"{len(report.failures)} failed; see: bareclip index-status {db}")


def _print_status(status: IndexStatus) -> None:
    made_by = status.made_by
    print_pairs(
        [
            ("index", str(status.path)),
            ("model", f"{made_by.model}, {made_by.precision}, {made_by.width} wide"),
            ("bundle", status.bundle or "none yet"),
            ("photos read", f"{made_by.reading}, {made_by.decoding} decoding"),
            ("photos", str(status.photos)),
            ("added vectors", str(status.added)),
            ("other files", str(status.other)),
            ("failed", str(len(status.failures))),
        ]
    )
    for failure in status.failures:
        say(f"  {failure.path}: {failure.reason}")

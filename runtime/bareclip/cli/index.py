"""bareclip index: a folder of photos into a searchable file."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from ..errors import BareclipError, StoreError
from ..files import printable
from ..index import Index
from ..index.photo_index import IndexStatus
from ..index.sync import FileFailure, SyncProgress, SyncReport
from .options import device_option, index_bundle_option, json_option, load_indexed, threads_option
from .output import print_pairs


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--db", type=click.Path(path_type=Path), help="The index; made where there is none.")
@click.option("--status", type=click.Path(path_type=Path), help="Describe this index instead.")
@click.option(
    "--export", "target", type=click.Path(path_type=Path), help="Write vectors: .parquet or .npy."
)
@click.option(
    "--import", "source", type=click.Path(path_type=Path), help="Add vectors: .parquet or .npy."
)
@click.option(
    "--prune", is_flag=True, help="Forget what is not found, though FOLDER or a disk is missing."
)
@click.option("--exact", is_flag=True, help="Decode large JPEGs whole; for a new index. Slower.")
@index_bundle_option
@click.option("--precision", help="As for classify; for a new index.")
@click.option("--read", type=click.Choice(["as-seen", "as-stored"]), help="For a new index.")
@device_option
@threads_option
@json_option
def index(
    folder: Path | None,
    db: Path | None,
    status: Path | None,
    target: Path | None,
    source: Path | None,
    prune: bool,
    exact: bool,
    bundle: str | None,
    precision: str | None,
    read: str | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Indexes the photos in FOLDER and below; run again, only what has changed.

    \b
    bareclip index ~/Photos --db photos.db --bundle clip-b32
    bareclip index ~/Photos --db photos.db
    bareclip index --status photos.db
    bareclip index --db photos.db --export vectors.parquet
    """
    if sum(given is not None for given in (folder, status, target, source)) != 1:
        raise BareclipError("give one of FOLDER, --status, --export and --import")
    if status is not None:
        with Index.open(status) as opened:
            _show(opened.status(), as_json)
        return
    if db is None:
        raise BareclipError("--db is missing: the file of the index, such as --db photos.db")
    if target is not None:
        with Index.open(db) as opened:
            _count(opened.export_to(target), f"written to {target}", as_json)
        return
    clip = load_indexed(db, bundle, precision, read, device, threads)
    with Index.open(db, clip, exact=exact or None) as opened:
        if source is not None:
            _count(opened.import_from(source), f"added to {db}", as_json)
        elif folder is not None:
            _sync(opened, folder, prune, as_json)


def _sync(opened: Index, folder: Path, prune: bool, as_json: bool) -> None:
    # Pillow warns of odd files, a line each; what matters of that is in the status.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with tqdm(unit="photo", disable=None, leave=False) as bar:

        def show(progress: SyncProgress) -> None:
            bar.total = progress.total
            bar.set_postfix(failed=progress.failed, refresh=False)
            bar.update(progress.done - bar.n)

        report = opened.sync(folder, prune=prune, report=show)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        _print_report(report, opened.path)
    if report.unreadable:
        first = report.unreadable[0]
        raise StoreError(
            f"{len(report.unreadable)} folders could not be read, first {printable(first.path)}: "
            f"{first.reason}; what was known of them is kept, the rest is indexed"
        )


def _print_report(report: SyncReport, path: Path) -> None:
    counts = [
        f"{count} {name}"
        for name in ("added", "changed", "renamed", "removed", "unchanged")
        if (count := getattr(report, name)) or name in ("added", "unchanged")
    ]
    click.echo(", ".join(counts))
    if report.kept:
        click.echo(
            f"{report.kept} not found but kept: what they lay on may be away; "
            "to forget them: --prune"
        )
    if report.failures:
        click.echo(f"{len(report.failures)} failed; see: bareclip index --status {path}")


def _show(status: IndexStatus, as_json: bool) -> None:
    if as_json:
        described: dict[str, Any] = dataclasses.asdict(status)
        click.echo(json.dumps(described | {"path": str(status.path)}, indent=2))
        return
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
        click.echo(_line(failure))


def _line(failure: FileFailure) -> str:
    return f"  {printable(failure.path)}: {printable(failure.reason)}"


def _count(count: int, what: str, as_json: bool) -> None:
    click.echo(json.dumps({"vectors": count}) if as_json else f"{count} vectors {what}")

"""bareclip shards export: a run's vectors, as other systems take them."""

import dataclasses
import signal
from typing import Any

import click
from tqdm import tqdm

from .options import json_option
from .output import say, say_json

_TARGETS = ("clip-retrieval", "faiss", "lance", "milvus", "npz", "pgvector", "qdrant")


@click.command()
@click.argument("out")
@click.option("--to", type=click.Choice(_TARGETS), required=True, help="Which system takes it.")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DEST",
    help="Folder to be made, NAME.lance, or the address of a PostgreSQL database.",
)
@click.option("--table", help="To be made in the database.  [default: images]")
@click.option("--partial", is_flag=True, help="Take what is done of a run that is not finished.")
@json_option
def export(out: str, to: Any, output: str, table: str | None, partial: bool, as_json: bool) -> None:
    """Writes the vectors of the run in OUT for another system.

    \b
    bareclip shards export OUT --to lance -o photos.lance
    bareclip shards export OUT --to faiss -o index/
    bareclip shards export OUT --to pgvector -o postgresql://user@host/name --table photos
    """
    from .. import shards

    if table is not None and to != "pgvector":
        raise click.UsageError("--table goes with --to pgvector.")
    # What is half written is removed when a scheduler ends this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tqdm(unit="vector", unit_scale=True, disable=None, leave=False) as bar:
        found = shards.export(
            out,
            to,
            output,
            table=table or "images",
            partial=partial,
            report=lambda done: bar.update(done - bar.n),
        )
    if as_json:
        say_json(dataclasses.asdict(found))
        return
    left = f", {found.missing} shards are not done yet" if found.missing else ""
    say(f"{found.rows} vectors; {found.failed} pictures that failed are left out{left}")

"""bareclip shards: millions of pictures, on one machine or many, with nothing lost."""

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from tqdm import tqdm

from .. import BareclipError, ShardError
from .options import ModelOptions, bundle_option, exclude_option, json_option, with_model
from .output import note, print_pairs, print_table, say, say_json
from .shards_export import export

out_argument = click.argument("out")
# Seconds between two looks at how far a shard is.
_GLANCE = 0.5


@click.group()
def shards() -> None:
    """Embeds pictures by the million: plan, run, status, verify, export.

    \b
    bareclip shards plan "s3://bucket/train/*.tar" -o OUT
    bareclip shards run OUT --bundle clip-b32          # again later: what is left
    bareclip shards status OUT
    bareclip shards verify OUT
    bareclip shards export OUT --to lance -o photos.lance
    bareclip search OUT "a sunset over the ocean" --bundle clip-b32
    """


@shards.command()
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.option("-o", "--output", required=True, help="The run's folder, local or s3://bucket/run.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Pictures of a shard at most; a tar is one shard, however large.",
)
@click.option(
    "--vectors",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Type of the vectors' numbers.",
)
@click.option("--exact", is_flag=True, help="Decode large JPEGs whole, not at 1/2 to 1/8.")
@click.option("--image-column", help="Of Parquet files. Default: the one of a usual name.")
@click.option("--key-column", help="Of Parquet files. Default: the one of a usual name.")
@exclude_option
@json_option
def plan(
    sources: tuple[str, ...],
    output: str,
    rows: int,
    vectors: Any,
    exact: bool,
    image_column: str | None,
    key_column: str | None,
    exclude: tuple[str, ...],
    as_json: bool,
) -> None:
    """Cuts the pictures of SRC into shards, and writes that down, once.

    SRC are WebDataset tars, Parquet files of bytes or paths, folders, img2dataset's output, or
    patterns in quotes; local, s3://, gs://, or what fsspec opens.

    \b
    bareclip shards plan photos/ -o OUT
    bareclip shards plan "s3://bucket/train/*.tar" -o s3://bucket/run --vectors float32
    """
    found = _room().plan(
        sources,
        output,
        rows=rows,
        vectors=vectors,
        decoding="exact" if exact else "scaled",
        image_column=image_column,
        key_column=key_column,
        exclude=exclude,
    )
    if as_json:
        say_json(dataclasses.asdict(found.info))
        return
    pictures = "" if found.info.pictures is None else f", {found.info.pictures} pictures"
    say(f"{found.out}: {len(found)} shards{pictures}, {found.info.bytes / 1e6:,.1f} MB")


@shards.command()
@out_argument
@click.option(
    "--engine",
    type=click.Choice(["local", "ray", "task"]),
    default="local",
    show_default=True,
    help="Who does the shards: this process; workers on Ray; or this process as one of several "
    "that a scheduler starts.",
)
@click.option("--task", metavar="I/N", help="Of N tasks, numbered from 0, this is I.")
@click.option("--address", help="Ray's head, as 10.0.0.1:6379, or auto. Default: a Ray of its own.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="On Ray. Default: as many as it has room for, also later.",
)
@click.option(
    "--cpus-per-worker",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="As Ray counts them; also its threads, unless --threads says otherwise.",
)
@click.option(
    "--gpus-per-worker",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="As Ray counts them.",
)
@json_option
@bundle_option
@with_model
def run(
    model: ModelOptions,
    out: str,
    engine: str,
    task: str | None,
    address: str | None,
    workers: int | None,
    cpus_per_worker: int,
    gpus_per_worker: float,
    as_json: bool,
) -> None:
    """Embeds the shards of OUT that are not done; run again, it goes on.

    \b
    bareclip shards run OUT --bundle clip-b32
    bareclip shards run OUT --bundle clip-b32 --engine task --task $SLURM_ARRAY_TASK_ID/100
    bareclip shards run OUT --bundle clip-b32 --engine ray --address auto --gpus-per-worker 1
    """
    if (engine == "task") != (task is not None):
        raise click.UsageError("--engine task and --task I/N go together.")
    if engine != "ray" and (address or workers or cpus_per_worker != 1 or gpus_per_worker):
        raise click.UsageError(
            "--address, --workers, --cpus-per-worker and --gpus-per-worker are for --engine ray."
        )
    # Read when pyarrow is imported: its own allocator would keep 10 MB of every large part.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    room = _room()
    found = room.Plan.read(out)
    mine = range(len(found)) if task is None else room.slice_of(found, task)
    # Schedulers end a task so; a shard that ends in order counts as no attempt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if engine == "ray":
        from ..shards import ray_engine

        events = partial(
            ray_engine.run,
            found,
            model.loader("vision", threads=cpus_per_worker),
            address=address,
            workers=workers,
            cpus=cpus_per_worker,
            gpus=gpus_per_worker,
        )
        _follow(room, found, mine, lambda left, _: events(left), as_json)
        return

    def local(left: list[int], glance: Any) -> Any:
        return room.run(found, lambda: model.load("vision"), left, report=glance)

    _follow(room, found, mine, local, as_json)


@shards.command()
@out_argument
@json_option
def status(out: str, as_json: bool) -> None:
    """Says how far the run in OUT is, from any machine, while it runs or not.

    \b
    bareclip shards status OUT
    """
    found = _room().status(out)
    if as_json:
        say_json(dataclasses.asdict(found))
        return
    rate = "-" if found.per_second is None else f"{found.per_second:,.1f} a second"
    left = "-" if found.seconds_left is None else _duration(found.seconds_left)
    print_pairs(
        [
            ("run", found.out),
            ("model", found.model or "none yet"),
            ("shards", f"{found.done} of {found.shards} done, {found.begun} begun"),
            ("pictures", f"{found.rows}: {found.embedded} embedded, {found.failed} failed"),
            ("pace", rate),
            ("time left", left),
        ]
    )
    for index in found.partial:
        say(f"shard {index} is partial: its source is cut or damaged; see bareclip shards verify")
    for index, why in found.unreadable.items():
        say(f"shard {index}: {why}")
    if found.failures:
        say("")
        rows = [[str(count), reason] for reason, count in found.failures.items()]
        print_table(["failed", "reason"], rows, right=0)


@shards.command()
@out_argument
@json_option
def verify(out: str, as_json: bool) -> None:
    """Counts the run in OUT against its input; exits with 1 if anything is missing or wrong.

    \b
    bareclip shards verify OUT
    """
    found = _room().verify(out)
    if as_json:
        say_json(dataclasses.asdict(found))
    else:
        for one in (*found.notes, *found.problems):
            say(("" if one.shard is None else f"shard {one.shard}: ") + one.what)
        say(
            f"{found.shards} shards, {found.rows} pictures: {found.embedded} embedded, "
            f"{found.failed} failed"
        )
    if found.problems:
        raise ShardError(f"{len(found.problems)} problems; {out} is not whole")


shards.add_command(export)


def _room() -> Any:
    """The package, which needs an extra."""
    from .. import shards as room

    return room


def _follow(
    room: Any,
    found: Any,
    mine: range,
    engine: Callable[[list[int], Callable[[int, int], None]], Any],
    as_json: bool,
) -> None:
    """Has an engine run shards, and says how far they are."""
    left = sorted(set(room.unfinished(found)) & set(mine))
    pace = room.Pace(found)
    counts = {"shards": 0, "rows": 0, "embedded": 0, "failed": 0}
    refused: list[Any] = []
    quiet = not sys.stderr.isatty()
    with tqdm(
        total=len(mine), initial=len(mine) - len(left), unit="shard", disable=None, leave=False
    ) as bar:
        looked = 0.0

        def glance(done: int, failed: int) -> None:
            nonlocal looked
            if time.monotonic() - looked > _GLANCE:
                looked = time.monotonic()
                bar.set_postfix(pictures=counts["rows"] + done, failed=counts["failed"] + failed)

        for event in engine(left, glance):
            if isinstance(event, room.Refused):
                refused.append(event)
                note(f"shard {event.shard}: {event.reason}")
                continue
            footer = event.footer
            pace.add(footer)
            counts["shards"] += 1
            for name in ("rows", "embedded", "failed"):
                counts[name] += getattr(footer, name)
            bar.update()
            if quiet:
                note(
                    f"shard {event.shard}: {footer.rows} pictures, {footer.failed} failed; "
                    f"{counts['shards']} of {len(left)}, {pace.per_second or 0:,.1f} a second"
                )
    if as_json:
        told = [dataclasses.asdict(event) for event in refused]
        say_json({**counts, "before": len(mine) - len(left), "refused": told})
    elif not left:
        say(f"all {len(mine)} shards are done; count them with: bareclip shards verify {found.out}")
    else:
        say(
            f"{counts['shards']} shards, {counts['rows']} pictures: {counts['embedded']} "
            f"embedded, {counts['failed']} failed"
        )
    if refused:
        raise BareclipError(
            f"{len(refused)} shards could not be done, first shard {refused[0].shard}: "
            f"{refused[0].reason}"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"

"""What people read: lines, tables, JSON, progress, complaints. No verb writes past this.

Names, labels, bundles, databases and servers hold whatever their makers put there, so a line
goes through ``printable`` first; and what the output's encoding has not is replaced, since a
file's name must not end a run.
"""

import json
import logging
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, TextIO, TypeVar

import click
from tqdm import tqdm

from .. import Bundle
from ..bundle import Fidelity
from ..files import printable
from ..inference.device import stored

Item = TypeVar("Item")

# tqdm's own lock is also one between processes, a semaphore: where these are not forked (macOS, and
# Linux from Python 3.14 on) another process watches it, and complains when this one ends at once.
tqdm.set_lock(threading.RLock())

# Characters of a complaint, whatever it quotes.
_LONGEST = 1500


def say(*lines: str) -> None:
    """Prints lines on stdout."""
    for line in lines:
        click.echo(_shown(line, sys.stdout))


def say_json(data: Any) -> None:
    """Prints JSON on stdout, in ASCII."""
    click.echo(json.dumps(data, indent=2))


def say_json_items(items: Iterable[Any]) -> None:
    """As ``say_json`` of a list, an item at a time: there may be a million."""
    click.echo("[", nl=False)
    for place, item in enumerate(items):
        click.echo(("," if place else "") + "\n  " + json.dumps(item), nl=False)
    click.echo("\n]")


def note(line: str) -> None:
    """Prints a line on stderr, above a progress bar where there is one."""
    with tqdm.external_write_mode(file=sys.stderr, nolock=True):
        click.echo(_shown(line, sys.stderr), err=True)


def complain(message: str) -> None:
    """Prints on stderr, in one line, what is wrong."""
    line = " ".join(message.split())
    if len(line) > _LONGEST:
        # What to do next comes last.
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    note(f"bareclip: {line}")


class Notes(logging.Handler):
    """Log records as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: int = 1) -> None:
    """Prints columns as wide as their widest cell; the last ``right`` are right-aligned."""
    shown = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    left = len(header) - right
    for row in (shown[0], ["-" * width for width in widths], *shown[1:]):
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Prints names and values, a pair per line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        say(f"{name.ljust(width)}  {value}")


def with_progress(
    items: Iterable[Item], total: int | None = None, unit: str = "image"
) -> Iterable[Item]:
    """The items, and on stderr, where that is a terminal, a bar of how many were taken."""
    bar: Iterable[Item] = tqdm(items, total=total, unit=unit, disable=None, leave=False)
    return bar


def print_fidelity(
    bundle: Bundle, precision: str, fidelity: Fidelity, device: str | None = None
) -> None:
    """What a precision was found to be against fp32; ``device`` where one was asked for."""
    where = "" if device is None else f" on {device}"
    forced = "; kept by force, under its floor" if fidelity.forced else ""
    against = "fp32" if device is None else "fp32 on cpu,"
    say(f"{precision}{where} against {against} on {fidelity.data}{forced}")
    header = ["tower", "how", "MB", "mean cosine", "1 %", "least", "in a batch", "speed"]
    rows = [
        [
            name,
            bundle.tower(stored(precision), name).recipe,
            f"{bundle.size(stored(precision), name) / 1e6:.1f}",
            f"{tower.mean_cosine:.5f}",
            f"{tower.p1_cosine:.5f}",
            f"{tower.min_cosine:.5f}",
            f"{tower.batch_difference:.0e}",
            "-" if tower.speed_ratio is None else f"{tower.speed_ratio:.2f}x",
        ]
        for name, tower in fidelity.towers.items()
    ]
    print_table(header, rows, right=6)
    change = fidelity.recall1_change
    recall = "" if change is None else f", recall@1 changed by {change:+.1f} points"
    if (agreement := fidelity.top1_agreement) is not None:
        say(f"nearest text the same for {agreement:.1%} of images{recall}")


def _shown(line: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(line).encode(encoding, "replace").decode(encoding)

"""Tables, progress and complaints, for people."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import click
from tqdm import tqdm

from ..results import Failure

Item = TypeVar("Item")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: int = 1) -> None:
    """Prints columns as wide as their widest cell; the last ``right`` are right-aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    left = len(header) - right
    for row in (header, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Prints names and values, a pair a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {value}")


def with_progress(images: Sequence[Item]) -> Iterable[Item]:
    """The images, and a progress bar on stderr where that is a terminal."""
    bar: Iterable[Item] = tqdm(images, unit="image", disable=None, leave=False)
    return bar


def print_skipped(failures: Sequence[Failure]) -> None:
    """Names on stderr what could not be read, a line each."""
    for failure in failures:
        click.echo(f"skipped: {failure.reason}", err=True)

"""Tables, progress and complaints, for people."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import click
from tqdm import tqdm

from ..bundle import Bundle, Fidelity
from ..types import Failure

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


def print_fidelity(bundle: Bundle, precision: str, fidelity: Fidelity) -> None:
    """What a precision was found to be against fp32."""
    forced = "; kept by force, under its floor" if fidelity.forced else ""
    click.echo(f"{precision} against fp32 on {fidelity.data}{forced}")
    header = ["tower", "how", "MB", "mean cosine", "1 %", "least", "in a batch", "speed"]
    rows = [
        [
            name,
            bundle.tower(precision, name).recipe,
            f"{bundle.size(precision, name) / 1e6:.1f}",
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
        click.echo(f"nearest text the same for {agreement:.1%} of images{recall}")

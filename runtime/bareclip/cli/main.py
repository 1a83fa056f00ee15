"""Collects the verbs, and turns every error into one line and an exit code.

Verbs from other packages join through the entry point group ``bareclip.commands``.
"""

import contextlib
import os
import sys
import warnings
from importlib.metadata import entry_points
from typing import NoReturn

import click
from PIL import Image

from .. import __version__
from ..errors import BareclipError
from .bench import bench
from .cache import cache
from .classify import classify
from .demo import demo
from .embed import embed
from .evaluate import evaluate
from .index import index
from .info import info
from .models import models
from .search import search
from .similarity import similarity
from .verify import verify


class _Commands(click.Group):
    """The verbs of this package, and those that installed packages add."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        added = [entry.name for entry in entry_points(group="bareclip.commands")]
        return sorted({*super().list_commands(ctx), *added})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        own = super().get_command(ctx, name)
        if own is not None:
            return own
        for entry in entry_points(group="bareclip.commands", name=name):
            command: click.Command = entry.load()
            return command
        return None


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="bareclip")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """CLIP without PyTorch: classify, compare and embed images and texts.

    \b
    bareclip export openai/clip-vit-base-patch32 -o clip-b32
    bareclip classify cat.jpg --labels "cat,dog,bird" --bundle clip-b32
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (
    bench, cache, classify, demo, embed, evaluate, index, info, models, search, similarity, verify,
):  # fmt: skip
    commands.add_command(_command)


def main() -> None:
    """Runs the command line; exits with 0, 1 on an error, 130 when interrupted."""
    # Photos of 90 megapixels are welcome; Pillow's own limit for hostile ones still holds.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        commands.main(standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "bareclip"
        _fail(f"{error.format_message()} See: {path} --help", 1)
    except click.ClickException as error:
        _fail(error.format_message(), 1)
    except (BareclipError, OSError, MemoryError) as error:
        _fail(str(error) or type(error).__name__, 1)


def _fail(message: str, code: int) -> NoReturn:
    click.echo("bareclip: " + " ".join(message.split()), err=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    # At once: a normal exit would wait for pictures that are still being fetched.
    os._exit(code)

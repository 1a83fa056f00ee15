"""Collects the verbs, and turns every error into one line and an exit code.

Verbs from other packages join through the entry point group ``bareclip.commands``.
"""

import contextlib
import logging
import os
import sys
import traceback
import warnings
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import click
from PIL import Image

from .. import BareclipError, __version__
from .bench import bench
from .cache import cache
from .classify import classify
from .demo import demo
from .duplicates import duplicates
from .embed import embed
from .evaluate import evaluate
from .index import index, index_export, index_import, index_status
from .info import info
from .map import map_
from .models import models
from .output import Notes, complain, note
from .pair import pair
from .push import push
from .search import search
from .serve import serve
from .shards import shards
from .similarity import similarity
from .tag import tag
from .teach import teach
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

    def invoke(self, ctx: click.Context) -> None:
        """As click's; what a verb returns is no exit code, which ``ctx.exit`` gives."""
        super().invoke(ctx)


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A verb about a bundle takes it as its first argument, as `bareclip info clip-b32`; "
    "a verb that uses a model on pictures or texts takes it with --bundle. Exit codes: 0, "
    "1 on an error, 2 when the command line is wrong, 130 when interrupted.",
)
@click.version_option(__version__, prog_name="bareclip")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is loaded, and from where.")
@click.pass_context
def commands(ctx: click.Context, verbose: bool) -> None:
    """CLIP without PyTorch: classify, compare and embed images and texts.

    \b
    bareclip export openai/clip-vit-base-patch32 -o clip-b32
    bareclip classify cat.jpg --labels "cat,dog,bird" --bundle clip-b32
    """
    if verbose:
        logging.getLogger("bareclip").setLevel(logging.INFO)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (
    bench, cache, classify, demo, duplicates, embed, evaluate, index, index_export, index_import,
    index_status, info, map_, models, pair, push, search, serve, shards, similarity, tag, teach,
    verify,
):  # fmt: skip
    commands.add_command(_command)


def main() -> None:
    """Runs the command line; the epilogue of its help has the exit codes."""
    _replace_closed_streams()
    # Photos of 90 megapixels are welcome; Pillow's own limit for hostile ones still holds.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.showwarning = _warn
    sys.excepthook = _trace
    logging.getLogger().addHandler(Notes())
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what counts of odd files is raised
    try:
        code = commands.main(standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "bareclip"
        _fail(f"{error.format_message()} See: {path} --help", error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except (BareclipError, OSError, MemoryError) as error:
        _fail(str(error) or type(error).__name__, 1)
    sys.exit(code)


def _replace_closed_streams() -> None:
    """Opens what was closed before us: the next file would take its place, and be written to."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115, until we end


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    complain(f"warning: {message}")


def _trace(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    for lines in traceback.format_exception(kind, error, trace):
        for line in lines.splitlines():
            note(line)


def _fail(message: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError):
        complain(message)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    # At once: a normal exit would wait for pictures that are still being fetched.
    os._exit(code)

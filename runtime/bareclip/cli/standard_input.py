"""Standard input, which an argument ``-`` stands for."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from ..files import read_lines, text_lines

DASH = "-"
NAME = "standard input"


def check_once(arguments: Iterable[str | None]) -> None:
    """Refuses a command line that wants standard input for two things.

    Args:
        arguments: All those that may be ``-``.

    Raises:
        UsageError: More than one is.
    """
    if [*arguments].count(DASH) > 1:
        raise click.UsageError("only one argument may be -, since there is one standard input.")


def read_bytes() -> bytes:
    """All of it."""
    return sys.stdin.buffer.read()


def lines_of(file: str) -> list[str]:
    """The lines of a text file, or of standard input; stripped, and empty ones do not count.

    Raises:
        TextError: The file cannot be read.
    """
    return text_lines(read_bytes(), NAME) if file == DASH else read_lines(Path(file))


def with_lines(texts: Iterable[str]) -> list[str]:
    """Texts of a command line, with the lines of standard input in the place of ``-``."""
    return [line for text in texts for line in (lines_of(text) if text == DASH else [typed(text)])]


def typed(text: str) -> str:
    """A text as it was typed, also where a locale without UTF-8 has made surrogates of it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "surrogateescape")
    return text

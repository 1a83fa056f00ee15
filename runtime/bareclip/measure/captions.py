"""Images with captions, from a JSON Lines file."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import BareclipError


def read_pairs(path: Path) -> list[tuple[Path, list[str]]]:
    """Reads lines of ``{"image": path, "captions": [text, ...]}``.

    Args:
        path: The file; its images' paths are relative to it.

    Returns:
        Each image once, however many lines name it, with its captions, at least one.

    Raises:
        BareclipError: The file cannot be read, a line is not of that form, or there is none.
    """
    try:
        # Not splitlines(), which also splits at separators that may stand within a caption.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BareclipError(f"cannot read {path}: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            image, captions = data["image"], data["captions"]
        except (ValueError, TypeError, KeyError, RecursionError):
            image = captions = None
        texts = isinstance(captions, list) and all(isinstance(text, str) for text in captions)
        if not isinstance(image, str) or not texts or not captions:
            raise BareclipError(
                f'line {number} of {path} is not {{"image": "a.jpg", "captions": ["a text"]}}'
            )
        found.append((path.parent / image, captions))
    if not found:
        raise BareclipError(f"{path} holds no images with captions")
    return merge(found)


def merge(pairs: Iterable[tuple[Path, list[str]]]) -> list[tuple[Path, list[str]]]:
    """Each image once, however many pairs and links name it, with the captions of all of them."""
    found: dict[str, tuple[Path, list[str]]] = {}
    for path, captions in pairs:
        # Not Path.resolve(), which raises where links go in a circle.
        found.setdefault(os.path.realpath(path), (path, []))[1].extend(captions)
    return list(found.values())

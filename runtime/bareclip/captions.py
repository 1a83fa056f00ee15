"""Images with captions, from a JSON Lines file."""

import json
import os
from pathlib import Path

from .errors import BareclipError


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
    found: dict[Path, tuple[Path, list[str]]] = {}
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
        place = path.parent / image
        key = Path(os.path.realpath(place))  # Path.resolve() raises where links go in a circle
        found.setdefault(key, (place, []))[1].extend(captions)
    if not found:
        raise BareclipError(f"{path} holds no images with captions")
    return list(found.values())

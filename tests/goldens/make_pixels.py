"""Writes pixels.npz: resized pictures as Pillow 12 makes them in one step.

    pip install "pillow==12.3.*"
    python -m tests.goldens.make_pixels

Of every interpolation and both kinds of resizing, whole and of JPEGs decoded small. Pillow 13
resizes tall pictures vertically first, which rounds otherwise.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.variants import SHAPES, picture

PIXELS = Path(__file__).with_name("pixels.npz")
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
# Taller than 2:1, and shrunk by more in height than in width: where Pillow 12 and 13 part.
TALL = [(60, 200), (100, 450), (33, 500), (97, 211), (16, 333), (240, 1500)]
TARGET = 16


def photo(width: int, height: int) -> bytes:
    """A JPEG that is large enough to be decoded small."""
    file = io.BytesIO()
    picture(width, height).resize((8 * width, 8 * height)).save(file, "JPEG", quality=90)
    return file.getvalue()


def resized(width: int, height: int, kind: str) -> tuple[int, int]:
    if kind == "squash":
        return TARGET, TARGET
    if width <= height:
        return TARGET, int(TARGET * height / width)
    return int(TARGET * width / height), TARGET


def middle(image: Image.Image) -> NDArray[np.uint8]:
    left, top = (image.width - TARGET) // 2, (image.height - TARGET) // 2
    return np.asarray(image.crop((left, top, left + TARGET, top + TARGET)))


def cases() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    for interpolation in INTERPOLATIONS:
        resampling = Image.Resampling[interpolation.upper()]
        for kind in ("shortest", "squash"):
            for shape in [*SHAPES, *TALL]:
                name = f"{interpolation}.{kind}.{shape[0]}x{shape[1]}"
                size = resized(*shape, kind)
                yield name, middle(picture(*shape).resize(size, resampling))
            for shape in ((40, 90), (57, 41), (33, 101)):
                image = Image.open(io.BytesIO(photo(*shape)))
                size = resized(*image.size, kind)
                _, box = image.draft(None, (2 * size[0], 2 * size[1]))
                name = f"{interpolation}.{kind}.draft.{shape[0]}x{shape[1]}"
                yield name, middle(image.resize(size, resampling, box))


if __name__ == "__main__":
    np.savez_compressed(PIXELS, **dict(cases()))

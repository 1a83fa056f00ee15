"""A column of pictures' bytes to vectors and reasons, for pipelines of others."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..types import Vectors
from .decoding import decoded

Pixels = NDArray[np.uint8]


def embed_bytes(
    clip: Clip, images: Iterable[bytes | None], scaled: bool
) -> tuple[list[Vectors | None], list[str | None]]:
    """Embeds files of pictures; one that cannot be read costs no other.

    Args:
        clip: The model.
        images: Files, whole; None is a row without one.
        scaled: As for ``decoded``.

    Returns:
        For each its (D,) float32 unit vector or None, and None or why not.
    """
    encoder = clip.images
    how: Any = (encoder.recipe, encoder.reading, scaled, encoder.max_pixels)

    def read(data: bytes | None) -> tuple[str | None, Pixels | None]:
        if data is None:
            return "it is null", None
        pixels, error = decoded(bytes(data), *how)
        return error, pixels

    vectors: list[Vectors | None] = []
    errors: list[str | None] = []
    for error, vector in encoder.embed_each(images, read):
        # A row of a batch keeps all of it alive.
        vectors.append(None if vector is None else vector.copy())
        errors.append(error)
    return vectors, errors

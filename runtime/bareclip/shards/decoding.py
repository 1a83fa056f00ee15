"""Bytes to pixels or a reason, in this process or in a child."""

import numpy as np
from numpy.typing import NDArray

from ..bundle import ImageRecipe
from ..images.opening import open_bytes
from ..images.pixels import Reading, opened_pixels, reason


def decoded(
    data: bytes, recipe: ImageRecipe, reading: Reading, scaled: bool, max_pixels: int
) -> tuple[NDArray[np.uint8] | None, str | None]:
    """What the model is shown of a picture.

    Args:
        data: Of its file.
        recipe, reading, scaled, max_pixels: As for ``opened_pixels``.

    Returns:
        (size, size, 3) uint8 and None; or None and why not, in one line.
    """
    if not data:
        return None, "it is empty"
    try:
        picture = open_bytes(data, max_pixels)
        return opened_pixels(picture, recipe, reading, scaled, max_pixels=max_pixels), None
    except Exception as error:  # Decoders raise nearly anything on hostile files.
        return None, reason(error)

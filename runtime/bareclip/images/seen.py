"""Pictures as a viewer shows them: upright, in sRGB, over white, 8 bits; a strip at a time.

A strip, so that of a large picture nothing but what the decoder made lies in memory whole.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import ImageError
from . import tags
from .colour import Transform, to_srgb
from .opening import Values

# How each of EXIF's orientations is turned upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# (a picture of any mode, whole or a part) -> the same in RGB.
ToRGB = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Shown:
    """A decoded picture and how it is to be shown.

    Attributes:
        image: As it is stored.
        orientation: 1 to 8, as EXIF counts it.
        to_rgb: What shows a part of it.
    """

    image: Image.Image
    orientation: int
    to_rgb: ToRGB

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        width, height = self.image.size
        return (height, width) if self.orientation >= 5 else (width, height)

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Rows of the picture upright, in RGB."""
        image = self.image
        if (top, bottom) != (0, self.size[1]):
            width, height = image.size
            # Where these rows lie in the picture as it is stored.
            image = image.crop(
                (0, top, width, bottom)
                if self.orientation in (1, 2)
                else (0, height - bottom, width, height - top)
                if self.orientation in (3, 4)
                else (top, 0, bottom, height)
                if self.orientation in (5, 6)
                else (width - bottom, 0, width - top, height)
            )
        turn = _TURNS.get(self.orientation)
        return self.to_rgb(image if turn is None else image.transpose(turn))


def check_white(image: Image.Image, values: Values) -> None:
    """Refuses what viewers show each in their own way; before it is decoded, if possible.

    Raises:
        ImageError: What its values look like is agreed nowhere.
    """
    if values.no_white is not None:
        raise ImageError(values.no_white)
    if image.mode == "F":
        raise ImageError("a picture of floats has no agreed white; convert it to 8 bits first")


def as_stored(image: Image.Image, values: Values) -> Shown:
    """``convert("RGB")`` and nothing else; a TIFF is upright, since Pillow loads it so."""
    return Shown(image, values.orientation, lambda part: part.convert("RGB"))


def as_seen(image: Image.Image, values: Values) -> Shown:
    """As a viewer shows it to a person."""
    return Shown(image, _orientation(image, values), _viewer(image, values))


def _orientation(image: Image.Image, values: Values) -> int:
    """The one tag, and nothing written back, which fails for tags that Pillow cannot write."""
    if values.orientation != 1:
        return values.orientation
    block = image.info.get("exif")
    found = tags.exif_orientation(block) if isinstance(block, bytes) else None
    if found is None:
        try:  # texts of PNGs and XMP have it too, and what its user has set
            found = image.getexif().get(tags.ORIENTATION, 1)
        except Exception:  # a broken EXIF block costs its orientation, not the picture
            return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def _viewer(image: Image.Image, values: Values) -> ToRGB:
    profile, mode = image.info.get("icc_profile"), image.mode
    if mode.startswith("I"):
        levels = _levels(image, values)
        key = values.key[0] if values.key else None
        return functools.partial(_deep_grey, levels, key, to_srgb(profile, "L"))
    space = {"1": "L", "LA": "L", "La": "L", "L": "L", "CMYK": "CMYK"}.get(mode, "RGB")
    transform = to_srgb(profile, space)
    if image.has_transparency_data:
        return functools.partial(_over_white, transform, space)
    return functools.partial(_opaque, transform, space)


def _opaque(transform: Transform | None, space: str, part: Image.Image) -> Image.Image:
    if transform is None:
        return part.convert("RGB")
    return transform.apply(part.convert(space))


def _over_white(transform: Transform | None, space: str, part: Image.Image) -> Image.Image:
    part = part.convert("RGBA")
    if transform is not None:
        alpha = part.getchannel("A")
        part = transform.apply(part.getchannel("R") if space == "L" else part.convert("RGB"))
        part.putalpha(alpha)
    white = Image.new("RGBA", part.size, "white")
    return Image.alpha_composite(white, part).convert("RGB")


def _deep_grey(
    levels: "_Levels", key: int | None, transform: Transform | None, part: Image.Image
) -> Image.Image:
    """Grey of more than 8 bits; convert() would clip all above 255 to white."""
    values = np.asarray(part)
    grey = Image.fromarray(levels(values))
    shown = grey.convert("RGB") if transform is None else transform.apply(grey)
    if key is not None:
        clear = np.where(values == key, np.uint8(255), np.uint8(0))
        shown.paste((255, 255, 255), mask=Image.fromarray(clear))
    return shown


_Levels = Callable[[np.ndarray], np.ndarray]


def _levels(image: Image.Image, values: Values) -> _Levels:
    """What makes 8 bits of a picture's values."""
    white, inverted = values.white, values.inverted
    if white is None:
        # An image of its user's making. Mode "I" holds 32 bits, of which no two programs make
        # the same use: 8 where it has no more, else 16.
        deep = image.mode != "I" or image.format == "PNG" or np.asarray(image).max() > 255
        white = 65535 if deep else 255
    if white > 65535:
        return functools.partial(_of_32_bits, inverted)
    table = (np.arange(white + 1) * 255 + white // 2) // white
    table = (table[::-1] if inverted else table).astype(np.uint8)
    return functools.partial(_looked_up, table)


def _looked_up(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    return table[values.clip(0, len(table) - 1)]


def _of_32_bits(inverted: bool, values: np.ndarray) -> np.ndarray:
    # Pillow has them signed; the highest byte is what 8 bits show.
    highest = (values.view(np.uint32) >> 24).astype(np.uint8)
    return 255 - highest if inverted else highest

"""Pictures to pixels, by a bundle's recipe, equal to the reference processors'.

Pillow decodes and resamples, as those processors do; the rest is arithmetic. Nothing
here normalises: that is folded into the vision tower.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..bundle import ImageRecipe
from ..errors import ImageError
from .inputs import ImageInput, describe, open_image

Reading = Literal["as_seen", "as_stored"]
# Counts the changes of these rules that move vectors; an index says by which it was made.
READING_VERSION = 2

# A 60,000 x 1 strip passes Pillow's own limit and becomes 3 gigapixels when its
# shorter side grows to 224.
MAX_CANVAS_PIXELS = 64 * 1024 * 1024

# How many times the resized picture a JPEG decoded small must still be, on each side;
# benchmarks/search.py measures what that does to vectors.
DRAFT_MARGIN = 2


def read_pixels(image: ImageInput, recipe: ImageRecipe, reading: Reading) -> NDArray[np.uint8]:
    """Reads one picture and brings it to the size the model takes.

    Args:
        image: A path, the bytes of a file, a binary file, a PIL image, or a uint8 array
            (H, W, 3) RGB or (H, W) grey.
        recipe: The bundle's.
        reading: ``"as_seen"`` shows the model what a viewer shows a person: EXIF
            orientation applied, transparency over white, 16-bit grey scaled.
            ``"as_stored"`` does what the reference processors do: ``convert("RGB")``
            and nothing else. Both take the first frame of a file.

    Returns:
        (size, size, 3) uint8, RGB.

    Raises:
        ImageError: It cannot be read or is of no accepted kind; the message names it.
    """
    if reading not in get_args(Reading):
        raise ImageError(f"reading {reading!r} is unknown; it is 'as_seen' or 'as_stored'")
    try:
        return opened_pixels(open_image(image), recipe, reading)
    except ImageError:
        raise
    except Exception as error:  # Decoders raise nearly anything on hostile files.
        raise ImageError(f"cannot read image {describe(image)}: {reason(error)}") from error


def opened_pixels(image: Image.Image, recipe: ImageRecipe, reading: Reading) -> NDArray[np.uint8]:
    """As ``read_pixels``, of an image that Pillow has opened.

    Raises:
        ImageError: It cannot be used; the message does not name it.
        Exception: Whatever a decoder raises; ``reason`` puts it in words.
    """
    rgb = _as_seen(image) if reading == "as_seen" else image.convert("RGB")
    return np.asarray(_geometry(rgb, recipe))


def shrink(image: Image.Image, recipe: ImageRecipe) -> Image.Image:
    """Decodes an opened JPEG at 1/2, 1/4 or 1/8 and resizes it, where that leaves enough.

    Enough is ``DRAFT_MARGIN`` times the resized picture. The decoder then leaves out
    frequencies that resizing would remove: most of the time that a large photo takes.

    Returns:
        A picture of the size that ``opened_pixels`` would resize to, not yet turned
        upright; or the same image, where it is no JPEG or not large enough.
    """
    whole = image.size
    width, height = resized_size(*whole, recipe)
    drafted = image.draft(None, (DRAFT_MARGIN * width, DRAFT_MARGIN * height))
    if drafted is None or image.size == whole:
        return image
    # The last row and column may be more than the picture holds: a whole pixel for a part.
    _, box = drafted
    return _resized(image, (width, height), recipe, box)


def reason(error: Exception) -> str:
    """Why a picture could not be read, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is in no image format that Pillow reads, or it is cut short"
    return " ".join(str(error).split()) or type(error).__name__


def _as_seen(image: Image.Image) -> Image.Image:
    image = _upright(image)
    if image.mode.startswith("I"):
        return _eight_bits(image).convert("RGB")
    if image.mode == "F":
        raise ImageError("a picture of floats has no agreed white; convert it to 8 bits first")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block costs its orientation, not the picture
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, scaled; convert() would clip all above 255 to white.

    Mode "I" holds 32 bits, and is also how Pillow before 11.3 opens a 16-bit PNG.
    """
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    if image.mode != "I" or image.format == "PNG" or values.max() > 255:
        values = (values + 128) // 257
    return Image.fromarray(values.astype(np.uint8))


def _geometry(image: Image.Image, recipe: ImageRecipe) -> Image.Image:
    width, height = resized_size(image.width, image.height, recipe)
    if width * height > MAX_CANVAS_PIXELS:
        raise ImageError(
            f"cannot use an image of {image.width}x{image.height}: resized for this model it "
            f"would be {width}x{height}, over {MAX_CANVAS_PIXELS:,} pixels; crop it first"
        )
    image = _resized(image, (width, height), recipe, (0, 0, *image.size))
    offset = _half_floor if recipe.crop_offset == "floor" else _half_round
    left, top = offset(width - recipe.size), offset(height - recipe.size)
    return image.crop((left, top, left + recipe.size, top + recipe.size))


def _resized(
    image: Image.Image,
    size: tuple[int, int],
    recipe: ImageRecipe,
    box: tuple[float, float, float, float],
) -> Image.Image:
    """Resizes the part of a picture within ``box``, rows first, as every recipe means it.

    In two steps, since Pillow 13 would resize tall pictures by columns first (its pull request
    9549), which rounds otherwise: vectors would depend on the installed Pillow.
    """
    left, top, right, bottom = box
    resampling = Image.Resampling[recipe.interpolation.upper()]
    if (size[0], left, right) != (image.width, 0, image.width):
        width_first = (left, 0, right, image.height)
        image = image.resize((size[0], image.height), resampling, width_first)
    if (size[1], top, bottom) != (image.height, 0, image.height):
        image = image.resize((image.width, size[1]), resampling, (0, top, image.width, bottom))
    return image


def resized_size(width: int, height: int, recipe: ImageRecipe) -> tuple[int, int]:
    """Width and height after resizing, before the crop."""
    target = recipe.resize_to
    if recipe.resize == "squash":
        return target, target
    # Truncated, not rounded: torchvision and Hugging Face both do.
    if width <= height:
        return target, int(target * height / width)
    return int(target * width / height), target


def _half_floor(difference: int) -> int:
    return difference // 2


def _half_round(difference: int) -> int:
    return round(difference / 2)

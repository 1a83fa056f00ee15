"""Pictures to pixels, by a bundle's recipe, equal to the reference processors'.

Pillow decodes and resamples, as those processors do; the rest is arithmetic. Nothing
here normalises: that is folded into the vision tower.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..bundle import ImageRecipe
from ..errors import ImageError
from .inputs import ImageInput, describe, open_picture
from .limits import BUDGET, MAX_PIXELS
from .opening import Picture
from .seen import Shown, as_seen, as_stored, check_white

Reading = Literal["as_seen", "as_stored"]
# Counted up where the same file gives other pixels than before; an index keeps it, since vectors
# of different readings do not belong together. 2: colour profiles, orientation beside odd tags,
# grey of more than 8 bits, colour keys.
READING_VERSION = 2

# A 60,000 x 1 strip passes any limit of pixels and becomes 3 gigapixels when its
# shorter side grows to 224.
MAX_CANVAS_PIXELS = 64 * 1024 * 1024

# How many times the resized picture a JPEG decoded small must still be, on each side;
# benchmarks/search.py measures what that does to vectors.
DRAFT_MARGIN = 2

# Pixels that are converted and resized at a time: what that takes besides the picture itself.
_STRIP_PIXELS = 4 * 1024 * 1024


def read_pixels(
    image: ImageInput,
    recipe: ImageRecipe,
    reading: Reading,
    *,
    scaled: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Reads one picture and brings it to the size the model takes.

    Args:
        image: A path, the bytes of a file, a binary file, a PIL image, or a uint8 array
            (H, W, 3) RGB or (H, W) grey.
        recipe: The bundle's.
        reading: ``"as_seen"`` shows the model what a viewer shows a person: EXIF
            orientation applied, colours of a profile in sRGB, transparency over white, grey
            of more than 8 bits scaled. ``"as_stored"`` does what the reference processors of
            transformers 4.57 do: ``convert("RGB")`` and nothing else. Both take the first
            frame of a file.
        scaled: As for ``opened_pixels``.
        max_pixels: Of which a picture may be decoded; of WebP, AVIF, HEIF and JPEG 2000, whose
            decoders hold several copies, a third or a quarter. A JPEG of more is decoded at
            1/2, 1/4 or 1/8, where what is left is at least ``DRAFT_MARGIN`` times the size
            that it is resized to.

    Returns:
        (size, size, 3) uint8, RGB.

    Raises:
        ImageError: It cannot be read or is of no accepted kind; the message names it.
    """
    if reading not in get_args(Reading):
        raise ImageError(f"reading {reading!r} is unknown; it is 'as_seen' or 'as_stored'")
    try:
        picture = open_picture(image, max_pixels)
        return opened_pixels(picture, recipe, reading, scaled, max_pixels=max_pixels)
    except ImageError:
        raise
    except Exception as error:  # Decoders raise nearly anything on hostile files.
        raise ImageError(f"cannot read image {describe(image)}: {reason(error)}") from error


def opened_pixels(
    picture: Picture,
    recipe: ImageRecipe,
    reading: Reading,
    scaled: bool = False,
    *,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """As ``read_pixels``, of a picture that is opened.

    Args:
        picture: Decoded here, once.
        recipe: The bundle's.
        reading: As for ``read_pixels``.
        scaled: Decodes a large JPEG at 1/2, 1/4 or 1/8, where that leaves ``DRAFT_MARGIN``
            times the resized picture. The decoder then leaves out frequencies that resizing
            would remove: most of the time that a large photo takes.
        max_pixels: As for ``read_pixels``.

    Raises:
        ImageError: It cannot be used; the message does not name it.
        Exception: Whatever a decoder raises; ``reason`` puts it in words.
    """
    if reading == "as_seen":
        check_white(picture.image, picture.values)
    whole = picture.image.size
    size = resized_size(*whole, recipe)
    _check_canvas(whole, size)
    box = None
    if scaled or whole[0] * whole[1] > max_pixels:
        box = _draft(picture.image, size)
    picture.check_pixels(max_pixels)
    with BUDGET.hold(picture.held):
        image = picture.decode()
        if box is not None:
            image = _resized(image, size, recipe, box)
        shown = (as_seen if reading == "as_seen" else as_stored)(image, picture.values)
        return np.asarray(_geometry(shown, recipe))


def thumbnail(image: ImageInput, side: int) -> Image.Image:
    """A picture as a viewer shows it, no larger than a square of ``side`` pixels.

    Raises:
        ImageError: It is of no accepted kind, or there is no such file.
        Exception: Whatever a decoder raises.
    """
    picture = open_picture(image)
    check_white(picture.image, picture.values)
    picture.image.draft(None, (DRAFT_MARGIN * side, DRAFT_MARGIN * side))
    picture.check_pixels(MAX_PIXELS)
    with BUDGET.hold(picture.held):
        shown = as_seen(picture.decode(), picture.values)
        small = shown.rows(0, shown.size[1])
    small.thumbnail((side, side))
    return small


def _draft(image: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Has a JPEG decoded small where it can be; the part of it that is the picture."""
    whole = image.size
    drafted = image.draft(None, (DRAFT_MARGIN * size[0], DRAFT_MARGIN * size[1]))
    # The last row and column may be more than the picture holds: a whole pixel for a part.
    return None if drafted is None or image.size == whole else drafted[1]


def reason(error: Exception) -> str:
    """Why a picture could not be read, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is in no image format that Pillow reads, or it is cut short"
    return " ".join(str(error).split()) or type(error).__name__


def _check_canvas(whole: tuple[int, int], size: tuple[int, int]) -> None:
    # Rows are resized first: a wide picture of a narrow one is as high as that still.
    largest = max(size[0] * size[1], size[0] * whole[1] if size[0] > whole[0] else 0)
    if largest > MAX_CANVAS_PIXELS:
        raise ImageError(
            f"cannot use an image of {whole[0]}x{whole[1]}: resized for this model it "
            f"would be {size[0]}x{size[1]}, over {MAX_CANVAS_PIXELS:,} pixels; crop it first"
        )


def _geometry(shown: Shown, recipe: ImageRecipe) -> Image.Image:
    width, height = resized_size(*shown.size, recipe)
    image = _narrowed(shown, width, recipe)
    image = _resized(image, (width, height), recipe, (0, 0, *image.size))
    offset = _half_floor if recipe.crop_offset == "floor" else _half_round
    left, top = offset(width - recipe.size), offset(height - recipe.size)
    return image.crop((left, top, left + recipe.size, top + recipe.size))


def _narrowed(shown: Shown, width: int, recipe: ImageRecipe) -> Image.Image:
    """The picture in RGB, of another width and its own height; made in strips."""
    whole, height = shown.size
    rows = max(1, _STRIP_PIXELS // max(whole, width))
    if rows >= height:
        return _resized(shown.rows(0, height), (width, height), recipe, (0, 0, whole, height))
    narrow = Image.new("RGB", (width, height))
    for top in range(0, height, rows):
        strip = shown.rows(top, min(top + rows, height))
        strip = _resized(strip, (width, strip.height), recipe, (0, 0, *strip.size))
        narrow.paste(strip, (0, top))
    return narrow


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

"""Pictures to pixels, by a bundle's recipe, equal to the reference processors'.

Pillow decodes and resamples, as those processors do; the rest is arithmetic. Nothing
here normalises: that is folded into the vision tower.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .bundle import ImageRecipe
from .errors import ImageError
from .image_input import ImageInput, describe, open_image

Reading = Literal["as_seen", "as_stored"]

# A 60,000 x 1 strip passes Pillow's own limit and becomes 3 gigapixels when its
# shorter side grows to 224.
MAX_CANVAS_PIXELS = 64 * 1024 * 1024


def pixels(image: ImageInput, recipe: ImageRecipe, reading: Reading) -> NDArray[np.uint8]:
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
        opened = open_image(image)
        rgb = _as_seen(opened) if reading == "as_seen" else opened.convert("RGB")
        return np.asarray(_geometry(rgb, recipe))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        reason = "it is in no image format that Pillow reads, or it is cut short"
        raise ImageError(f"cannot read image {describe(image)}: {reason}") from error
    except Exception as error:  # Decoders raise nearly anything on hostile files.
        reason = str(error) or type(error).__name__
        raise ImageError(f"cannot read image {describe(image)}: {reason}") from error


def pixels_ahead(
    images: Iterable[ImageInput],
    recipe: ImageRecipe,
    reading: Reading,
    threads: int,
    ahead: int,
) -> Iterator[tuple[ImageInput, NDArray[np.uint8] | ImageError]]:
    """Reads images in threads, in order, while the caller works on those it has.

    Args:
        images: Taken from as needed.
        recipe, reading: As for ``pixels``.
        threads: How many images are read at once.
        ahead: How many may be taken before the caller asks for them, which bounds memory.

    Yields:
        Each image with its pixels, or with the error that reading it raised.
    """

    def decode(image: ImageInput) -> tuple[ImageInput, NDArray[np.uint8] | ImageError]:
        try:
            return image, pixels(image, recipe, reading)
        except ImageError as error:
            return image, error

    pool = ThreadPoolExecutor(threads)
    try:
        waiting = iter(images)
        taken = deque(pool.submit(decode, image) for image in islice(waiting, ahead))
        while taken:
            yield taken.popleft().result()
            taken.extend(pool.submit(decode, image) for image in islice(waiting, 1))
    finally:
        # Not waited for: after an error nobody needs what is still being read.
        pool.shutdown(wait=False, cancel_futures=True)


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
    filter_ = Image.Resampling[recipe.interpolation.upper()]
    width, height = resized_size(image.width, image.height, recipe)
    if width * height > MAX_CANVAS_PIXELS:
        raise ImageError(
            f"cannot use an image of {image.width}x{image.height}: resized for this model it "
            f"would be {width}x{height}, over {MAX_CANVAS_PIXELS:,} pixels; crop it first"
        )
    if (width, height) != image.size:
        image = image.resize((width, height), filter_)
    offset = _half_floor if recipe.crop_offset == "floor" else _half_round
    left, top = offset(width - recipe.size), offset(height - recipe.size)
    return image.crop((left, top, left + recipe.size, top + recipe.size))


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

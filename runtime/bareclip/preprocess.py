"""Pictures to pixels, by a bundle's recipe, equal to the reference processors'.

Pillow decodes and resamples, as those processors do; the rest is arithmetic. Nothing
here normalises: that is folded into the vision tower.
"""

import io
import os
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .bundle import ImageRecipe
from .errors import ImageError

ImageInput: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | NDArray[np.uint8]
)
Reading = Literal["as_seen", "as_stored"]

# A 60,000 x 1 strip passes Pillow's own limit and becomes 3 gigapixels when its
# shorter side grows to 224.
MAX_CANVAS_PIXELS = 64 * 1024 * 1024


def describe(image: object) -> str:
    """A short name of an image input for messages: its path, or what kind of thing it is."""
    if isinstance(image, (str, os.PathLike)):
        return os.fsdecode(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"{len(image)} bytes"
    if isinstance(image, np.ndarray):
        return f"array {image.shape} {image.dtype}"
    name = getattr(image, "filename", None) or getattr(image, "name", None)
    return str(name) if name else type(image).__name__


def pixels(image: ImageInput, recipe: ImageRecipe, reading: Reading) -> NDArray[np.uint8]:
    """Reads one picture and brings it to the size the model takes.

    Args:
        image: A path, the bytes of a file, a binary file, a PIL image, or a uint8 array
            (H, W, 3) RGB or (H, W) grey.
        recipe: The bundle's.
        reading: ``"as_seen"`` shows the model what a viewer shows a person: EXIF
            orientation applied, transparency over white, 16-bit grey scaled.
            ``"as_stored"`` does what the reference processors do: ``convert("RGB")``
            and nothing else. Both take the first frame of an animation.

    Returns:
        (size, size, 3) uint8, RGB.

    Raises:
        ImageError: It cannot be read or is of no accepted kind; the message names it.
    """
    if reading not in get_args(Reading):
        raise ImageError(f"reading {reading!r} is unknown; it is 'as_seen' or 'as_stored'")
    try:
        opened = _open(image)
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


def _open(image: ImageInput) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, (str, os.PathLike)):
        return _open_path(Path(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        if len(image) == 0:
            raise ImageError("cannot read image: the bytes are empty")
        return Image.open(io.BytesIO(image))
    if isinstance(image, np.ndarray):
        grey, colour = image.ndim == 2, image.ndim == 3 and image.shape[2] == 3
        if image.dtype != np.uint8 or not (grey or colour) or 0 in image.shape:
            raise ImageError(
                f"an array image must be uint8 of shape (H, W, 3) or (H, W), "
                f"not {image.dtype} of shape {image.shape}"
            )
        return Image.fromarray(image)
    if hasattr(image, "read"):
        return Image.open(image)
    raise ImageError(
        f"an image is a path, bytes, a binary file, a PIL image or a uint8 array, "
        f"not {type(image).__name__}"
    )


def _open_path(path: Path) -> Image.Image:
    if str(path).startswith(("http:/", "https:/")):
        raise ImageError(f"{path} is an address; download it and pass its bytes")
    # Only regular files: opening a pipe or a device could wait for ever.
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise ImageError(f"cannot read image {path}: it {what}")
    with path.open("rb") as file:
        image = Image.open(file)
        image.load()
    return image


def _as_seen(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16-bit grey; convert() would clip everything above 255 to white. Mode "I" is
        # how Pillow before 11.3 opens such a PNG.
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values.clip(0, 65535) + 128) // 257).astype(np.uint8)).convert(
            "RGB"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


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

"""What counts as an image, and opening it: paths, bytes, files, PIL images, arrays.

What the bytes are, and decoding them, is in opening.py; turning, resizing and cropping in
seen.py and pixels.py.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import ImageError
from ..files import is_there
from .decoders import formats, identify, strict
from .heif import HEIF_ENDINGS, is_heif
from .limits import MAX_FILE_BYTES, MAX_PIXELS
from .opening import Picture, alone, of_image, open_bytes


@dataclass(frozen=True)
class Fetched:
    """A file that is fetched where it is decoded, and not kept."""

    name: str
    fetch: Callable[[], bytes]


ImageInput: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Image.Image
    | NDArray[np.uint8]
    | Fetched
)

# What files of other endings may still be: formats whose first bytes leave no doubt.
_UNMISTAKABLE = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "AVIF")


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


@cache
def image_endings() -> frozenset[str]:
    """Endings of file names that Pillow knows here, as in ``".jpg"``, and those of HEIC."""
    known = formats()
    endings = Image.registered_extensions().items()
    return HEIF_ENDINGS.union(ending for ending, kind in endings if kind in known)


def is_disguised(file: BinaryIO) -> bool:
    """Whether a file begins like a picture although its name does not end like one's.

    Raises:
        OSError: It cannot be read.
    """
    prefix = file.read(16)
    for kind in _UNMISTAKABLE:
        accept = Image.OPEN[kind][1] if kind in formats() else None
        if accept is not None and accept(prefix) in (True, 1):
            break
    else:
        return is_heif(file)
    file.seek(0)
    try:
        with strict():
            identify(file, prefix)
    except UnidentifiedImageError:
        return False
    finally:
        file.seek(0)
    return True


def is_one_image(images: object) -> bool:
    """Whether this is one image rather than several; iterating it would mislead."""
    return (
        isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
        or hasattr(images, "read")
        or (isinstance(images, np.ndarray) and images.ndim < 4)
        or not hasattr(images, "__iter__")
    )


def open_picture(image: ImageInput, limit: int = MAX_PIXELS) -> Picture:
    """A picture of any input, not decoded yet where that can wait.

    Of a file, and of an image that Pillow has opened and not decoded, the bytes are what counts:
    they have the same answer whichever way they come.

    Args:
        image: See ``ImageInput``.
        limit: As for ``open_bytes``.

    Raises:
        ImageError: It is of no accepted kind, or there is no such file.
        Exception: Whatever a decoder raises.
    """
    if isinstance(image, Image.Image):
        return _open_pil(image, limit)
    if isinstance(image, Fetched):
        return open_picture(image.fetch(), limit)
    if isinstance(image, (str, os.PathLike)):
        return open_bytes(_read_path(Path(image)), limit)
    if isinstance(image, (bytes, bytearray, memoryview)):
        if len(image) == 0:
            raise ImageError("cannot read image: the bytes are empty")
        return open_bytes(bytes(image), limit)
    if isinstance(image, np.ndarray):
        grey, colour = image.ndim == 2, image.ndim == 3 and image.shape[2] == 3
        if image.dtype != np.uint8 or not (grey or colour) or 0 in image.shape:
            raise ImageError(
                f"an array image must be uint8 of shape (H, W, 3) or (H, W), "
                f"not {image.dtype} of shape {image.shape}"
            )
        return Picture(Image.fromarray(image), decoded=True)
    if hasattr(image, "read"):
        with alone(image):
            if image.seekable():
                image.seek(0)
            data = image.read()
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ImageError(
                f"cannot read image {describe(image)}: it gives {type(data).__name__}, not bytes; "
                'pass a binary file, such as open(path, "rb") or io.BytesIO'
            )
        return open_picture(_within_limit(bytes(data)), limit)
    raise ImageError(
        f"an image is a path, bytes, a binary file, a PIL image or a uint8 array, "
        f"not {type(image).__name__}"
    )


def _open_pil(image: Image.Image, limit: int) -> Picture:
    if not _is_undecoded(image):
        try:
            with alone(image):
                image.load()
        except Exception as error:
            raise ImageError(
                f"cannot read image {describe(image)}: it was closed before it was decoded; "
                "call its load() before its file is closed, or pass the path"
            ) from error
        return of_image(image)
    if image.format not in (*formats(), "MPO"):
        raise ImageError(
            f"cannot read image {describe(image)}: files in the format {image.format} are not "
            "opened here; call its load() first"
        )
    picture = open_bytes(_bytes_of(image), limit)
    moved = image.tell() != picture.image.tell()
    # A JPEG that was drafted, a later one of several, and an icon, which Pillow decodes when it
    # opens it: its user may have chosen another size of it, or drawn on it.
    if image.format == "ICO" or image.decoderconfig or (moved and image.format == "MPO"):
        picture.as_given = image
    elif moved:
        picture.seek(image.tell())
    return picture


def _is_undecoded(image: Image.Image) -> TypeGuard[ImageFile.ImageFile]:
    """Whether its file has yet to be decoded, as far as Pillow shows it."""
    if not isinstance(image, ImageFile.ImageFile):
        return False
    # Under another name since Pillow 11.
    made = image.__dict__.get("_im", image.__dict__.get("im"))
    is_open = image.fp is not None and not getattr(image.fp, "closed", False)
    return bool(image.tile) or (is_open and (made is None or image.format == "ICO"))


def _bytes_of(image: ImageFile.ImageFile) -> bytes:
    file = image.fp
    try:
        if file is None:
            raise ValueError("closed")
        with alone(file):
            before = file.tell()
            file.seek(0)
            data = file.read()
            file.seek(before)
    except ValueError as error:
        raise ImageError(
            f"cannot read image {describe(image)}: its file was closed before it was decoded; "
            "call its load() before its file is closed, or pass the path"
        ) from error
    return _within_limit(data)


def _read_path(path: Path) -> bytes:
    if str(path).startswith(("http:/", "https:/")):
        raise ImageError(f"{path} is an address; download it and pass its bytes")
    # Only regular files: opening a pipe or a device could wait for ever.
    if not path.is_file():
        what = "is not a file" if is_there(path) else "does not exist"
        raise ImageError(f"cannot read image {path}: it {what}")
    with path.open("rb") as file:
        return read_file(file)


def read_file(file: BinaryIO) -> bytes:
    """All of an opened file, if it is no larger than is read.

    Raises:
        ValueError: It is larger.
        OSError: It cannot be read.
    """
    size = os.fstat(file.fileno()).st_size
    if size > MAX_FILE_BYTES:
        raise ValueError(f"it has {size:,} bytes, more than {MAX_FILE_BYTES:,}")
    return _within_limit(file.read(MAX_FILE_BYTES + 1))


def _within_limit(data: bytes) -> bytes:
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES:,} bytes")
    return data

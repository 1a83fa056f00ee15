"""What counts as an image, and opening it: paths, bytes, files, PIL images, arrays.

Opening only; how a picture is turned upright, resized and cropped is in preprocess.py.
"""

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from .heif import HEIF_ENDINGS, check_heif, is_heif, register_heif


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

# What Pillow knows without loading its forty other decoders, which takes 30 ms.
_COMMON = ("JPEG", "PNG", "GIF", "BMP", "PPM")
# What files of other endings may still be: formats whose first bytes leave no doubt.
_UNMISTAKABLE = {"JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "AVIF"}

# Objects being read, by id: their lock, and an entry for each thread that wants it.
_in_use: dict[int, tuple[threading.Lock, list[None]]] = {}
_in_use_guard = threading.Lock()


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
    known = set(_formats())
    endings = Image.registered_extensions().items()
    return HEIF_ENDINGS.union(ending for ending, kind in endings if kind in known)


@contextmanager
def _alone(image: object) -> Iterator[None]:
    """Keeps other threads from reading the same object, and no other.

    A PIL image decodes itself when first used, and a file has one position: the same one
    given twice must not be read by two threads at once.
    """
    with _in_use_guard:
        lock, users = _in_use.setdefault(id(image), (threading.Lock(), []))
        users.append(None)
    try:
        with lock:
            yield
    finally:
        with _in_use_guard:
            users.pop()
            if not users:
                del _in_use[id(image)]


@cache
def _formats() -> tuple[str, ...]:
    """Every format Pillow decodes here, by itself.

    EPS would start Ghostscript on whatever a file holds; the others have no decoder.
    """
    Image.init()
    register_heif()
    return tuple(set(Image.OPEN) - {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})


def identify(file: BinaryIO) -> Image.Image:
    """Opens a file in any format; it is decoded when it is used, while the file is open.

    Raises:
        Exception: Whatever a decoder raises.
    """
    try:
        return Image.open(file, formats=_COMMON)
    except UnidentifiedImageError:
        name = getattr(file, "name", "")
        check_heif(file, Path(name).suffix.lower() if isinstance(name, str) else "")
        return Image.open(file, formats=_formats())


def is_disguised(file: BinaryIO) -> bool:
    """Whether a file begins like a picture although its name does not end like one's.

    Raises:
        Exception: Whatever a decoder raises.
    """
    try:
        Image.open(file, formats=tuple(_UNMISTAKABLE & set(_formats())))
    except UnidentifiedImageError:
        return is_heif(file)
    return True


def is_one_image(images: object) -> bool:
    """Whether this is one image rather than several; iterating it would mislead."""
    return (
        isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
        or hasattr(images, "read")
        or (isinstance(images, np.ndarray) and images.ndim < 4)
        or not hasattr(images, "__iter__")
    )


def open_image(image: ImageInput) -> Image.Image:
    """A PIL image of any input, perhaps not decoded yet.

    Raises:
        ImageError: It is of no accepted kind, or there is no such file.
        Exception: Whatever a decoder raises.
    """
    if isinstance(image, Image.Image):
        with _alone(image):
            image.load()
        return image
    if isinstance(image, Fetched):
        return open_image(image.fetch())
    if isinstance(image, (str, os.PathLike)):
        return _open_path(Path(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        if len(image) == 0:
            raise ImageError("cannot read image: the bytes are empty")
        return identify(io.BytesIO(image))
    if isinstance(image, np.ndarray):
        grey, colour = image.ndim == 2, image.ndim == 3 and image.shape[2] == 3
        if image.dtype != np.uint8 or not (grey or colour) or 0 in image.shape:
            raise ImageError(
                f"an array image must be uint8 of shape (H, W, 3) or (H, W), "
                f"not {image.dtype} of shape {image.shape}"
            )
        return Image.fromarray(image)
    if hasattr(image, "read"):
        with _alone(image):
            if image.seekable():
                image.seek(0)
            data = image.read()
        return open_image(data)
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
        image = identify(file)
        image.load()
    return image

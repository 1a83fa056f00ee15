"""Pillow's decoders, made to say the same whatever the rest of the program did to Pillow.

Neither its switch for truncated files nor its limit of pixels, both of the whole process, are
obeyed here, and libtiff's own messages do not reach the terminal.
"""

import ctypes
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO

from PIL import Image, ImageFile, JpegImagePlugin, UnidentifiedImageError, _imaging

from .heif import check_heif, register_heif

# What Pillow knows without loading its forty other decoders, which takes 30 ms.
_COMMON = ("JPEG", "PNG", "GIF", "BMP", "PPM")
# What people have pictures in. TGA is last, since its files begin with nothing of their own.
_FORMATS = (
    *_COMMON,
    *("WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "ICO", "PSD", "DIB", "TGA"),
)


def formats() -> tuple[str, ...]:
    """The formats that are opened, those of them that this Pillow has just now, by its names.

    An allow-list: others' decoders are old, rarely tried, and met only in hostile files; EPS
    would start Ghostscript on whatever a file holds.
    """
    Image.init()
    register_heif()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def identify(file: BinaryIO, prefix: bytes) -> ImageFile.ImageFile:
    """Opens a file in a format that is allowed; it is decoded when it is loaded.

    Not ``Image.open``, whose limit counts the pixels of the file, not those that are decoded.

    Args:
        file: At any position; it must stay open.
        prefix: Its first bytes.

    Raises:
        UnidentifiedImageError: It is in none.
        ValueError: It is HEIC, and what reads that is not installed.
        Exception: Whatever a decoder raises.
    """
    Image.preinit()
    image = _first(file, prefix, tuple(name for name in _COMMON if name in Image.OPEN))
    image = image or _first(file, prefix, formats())
    if image is None:
        check_heif(file)
        raise UnidentifiedImageError("in no format that is known")
    return image


def _first(file: BinaryIO, prefix: bytes, kinds: Sequence[str]) -> ImageFile.ImageFile | None:
    for kind in kinds:
        factory, accept = Image.OPEN[kind]
        if kind == "JPEG":  # without what MPO files, which have several, say of the others
            factory = JpegImagePlugin.JpegImageFile
        try:
            # What is no bool says why the format is known and cannot be read here.
            if accept is None or accept(prefix) in (True, 1):
                file.seek(0)
                return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    return None


class _Elsewhere:
    """True, but in threads that decode for us; stands in for ``LOAD_TRUNCATED_IMAGES``."""

    def __bool__(self) -> bool:
        return not getattr(_here, "strict", False)


_here = threading.local()
_guard = threading.Lock()
_decoding = 0


@contextmanager
def strict() -> Iterator[None]:
    """Has only whole pictures decoded in this thread, and what libtiff says be an error.

    ``ImageFile.LOAD_TRUNCATED_IMAGES`` is another's, and stays for other threads.

    Raises:
        ValueError: libtiff found damage and went on.
    """
    global _decoding
    _hear_libtiff()
    with _guard:
        _decoding += 1
        if ImageFile.LOAD_TRUNCATED_IMAGES and not _is_ours():
            ImageFile.LOAD_TRUNCATED_IMAGES = _Elsewhere()  # type: ignore[assignment]
    _here.strict, _here.damaged = True, False
    try:
        yield
    finally:
        _here.strict = False
        with _guard:
            _decoding -= 1
            if not _decoding and _is_ours():
                ImageFile.LOAD_TRUNCATED_IMAGES = True
    if _here.damaged:
        raise ValueError("its pixels are damaged")


def _is_ours() -> bool:
    return isinstance(ImageFile.LOAD_TRUNCATED_IMAGES, _Elsewhere)


# (module, format, a va_list), which is or becomes a pointer wherever Pillow runs.
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


@cache
def _hear_libtiff() -> object:
    """Puts a handler in place of libtiff's own, which prints errors to the terminal; once.

    Pillow does not offer it, so it is looked for in the copy that Pillow uses. Where that hides
    it, as on Windows, errors are printed as before: Pillow raises for most of them by itself.

    Returns:
        What must stay alive as long as libtiff does.
    """
    try:
        # A symbol is looked for in what a library depends on, too.
        setter = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):
        return None
    setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    before: list[Any] = []

    def handle(module: int | None, message: int | None, values: int | None) -> None:
        if getattr(_here, "strict", False):
            _here.damaged = True
        elif before:  # a thread of the rest of the program
            before[0](module, message, values)

    handler = _Handler(handle)
    own = setter(ctypes.cast(handler, ctypes.c_void_p))
    if own:
        before.append(_Handler(own))
    return handler

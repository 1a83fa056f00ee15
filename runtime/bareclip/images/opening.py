"""Opening bytes as a picture, and decoding it whole: every way in ends here.

What a file is, how large, and whether it can be a bomb is known before anything is decoded.
"""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFile

from . import headers, jpeg, png, tags
from .decoders import identify, strict
from .inflating import inflated
from .limits import MAX_PIXELS, check_drafted, check_pixels, held_pixels

# Objects being read, by id: their lock, and an entry for each thread that wants it.
_in_use: dict[int, tuple[threading.Lock, list[None]]] = {}
_in_use_guard = threading.Lock()


@contextmanager
def alone(thing: object) -> Iterator[None]:
    """Keeps other threads from reading the same object, and no other.

    A PIL image decodes itself when first used, and a file has one position: the same one
    given twice must not be read by two threads at once.
    """
    with _in_use_guard:
        lock, users = _in_use.setdefault(id(thing), (threading.Lock(), []))
        users.append(None)
    try:
        with lock:
            yield
    finally:
        with _in_use_guard:
            users.pop()
            if not users:
                del _in_use[id(thing)]


@dataclass(frozen=True)
class Values:
    """What a file says of its values, and Pillow does not.

    Attributes:
        orientation: As EXIF counts it, where the file has a tag of its own.
        white: The value that is white, of grey with more than 8 bits.
        inverted: Whether 0 is white instead, and ``white`` black.
        key: The colour that is transparent, in the file's own depth.
        no_white: Why no value is white, of what only looks like grey.
    """

    orientation: int = 1
    white: int | None = None
    inverted: bool = False
    key: tuple[int, ...] | None = None
    no_white: str | None = None


class Picture:
    """A picture that is decoded when it is asked for, whole or not at all.

    Attributes:
        image: Pillow's. What may be done before ``decode``: ask its size, and ``draft``.
        values: What its file says of its values.
    """

    def __init__(
        self,
        image: Image.Image,
        values: Values | None = None,
        png: png.Png | None = None,
        *,
        decoded: bool = False,
    ) -> None:
        self.image = image
        self.values = values or Values()
        # An image of the same bytes that its user has asked to decode in another way.
        self.as_given: Image.Image | None = None
        self._png = png
        self._whole = image.size
        # What its user has decoded takes nothing more, however large.
        self._decoded = decoded

    @property
    def held(self) -> int:
        """What decoding it takes, in pixels of 4 bytes; less, once drafted."""
        if self._decoded:
            return 0
        held = held_pixels(self.image.width * self.image.height, self.image.format)
        return held + self._whole[0] * self._whole[1] if self._is_progressive else held

    def check_pixels(self, limit: int) -> None:
        """Refuses what is larger than may be decoded, as it was drafted.

        Raises:
            ValueError: It is.
        """
        if not self._decoded:
            check_pixels(self.image.size, self.image.format, limit)
            check_drafted(self._whole, self._is_progressive, limit)

    @property
    def _is_progressive(self) -> bool:
        return "progressive" in self.image.info

    def seek(self, frame: int) -> None:
        """Takes another frame than the first, before it is decoded.

        Raises:
            Exception: Whatever decoders raise; there is none.
        """
        with strict():
            self.image.seek(frame)
        self._whole, self._png = self.image.size, None
        if self.image.format == "TIFF":
            self.values = _values_of_loaded_tiff(self.image)

    def decode(self) -> Image.Image:
        """The picture, decoded. Once: asked again after an error, Pillow is silent.

        Raises:
            Exception: Whatever decoders raise; some of it is not whole.
        """
        with strict():
            image = self.image
            if isinstance(image, ImageFile.ImageFile) and image.tile and image.format == "TIFF":
                _check_strips(image)
            image.load()
            if self._png is not None:
                self._check_rows(self._png)
                self._mask_deep_key(self._png)
            if self.as_given is not None:
                with alone(self.as_given):
                    self.as_given.load()
                return self.as_given
        return image

    def _check_rows(self, file: png.Png) -> None:
        """What was never written is zeros; where the last row is, bytes are counted."""
        image = self.image
        last = image.crop((0, image.height - 1, image.width, image.height))
        if (file.interlaced or not np.asarray(last).any()) and not file.is_whole():
            raise ValueError("it is cut short: its pixels end before its last row")

    def _mask_deep_key(self, file: png.Png) -> None:
        """Makes transparent what has the key's colour in all of its 16 bits; Pillow drops 8."""
        if file.key is None or file.depth != 16 or file.colours != 2:
            return
        image = self.image
        lower = identify(io.BytesIO(file.data), file.data[:16])
        # Read as if its bytes were the other way around, a sample is its lower half.
        lower.tile = [(*tile[:3], "RGB;16L") for tile in lower.tile]  # type: ignore[misc]
        lower.load()
        same = np.ones((image.height, image.width), bool)
        for band, value in enumerate(file.key):
            same &= np.asarray(image.getchannel(band)) == value >> 8
            same &= np.asarray(lower.getchannel(band)) == value & 255
        image.info.pop("transparency", None)
        image.putalpha(Image.fromarray(np.where(same, np.uint8(0), np.uint8(255))))


def open_bytes(data: bytes, limit: int = MAX_PIXELS) -> Picture:
    """Opens the bytes of a file; nothing is decoded yet.

    Args:
        data: Of a whole file.
        limit: Pixels; larger pictures are refused, but for JPEGs, which may be decoded small:
            ask ``Picture.check_pixels`` when that is decided.

    Raises:
        Exception: Whatever decoders raise; it is in no format that is known, too large, or
            would take too long.
    """
    if data.startswith(png.SIGNATURE):
        return _open_png(data, limit)
    if data.startswith(b"\xff\xd8\xff"):
        jpeg.check(data)
        return Picture(_identified(data))
    icon = headers.png_of_icon(data)
    if icon is not None:
        return _open_png(icon, limit)
    kind = "WEBP" if data.startswith(b"RIFF") else "AVIF" if data[4:8] == b"ftyp" else None
    for size in headers.sizes(data):
        check_pixels(size, kind, limit)
    values = Values()
    if data.startswith((b"II", b"MM")):
        data, values = _without_oddities(data)
    picture = Picture(_identified(data), values)
    picture.check_pixels(limit)
    image = picture.image
    if image.mode.startswith("I") and image.format != "TIFF":
        # Pillow scales what other formats have of 9 to 16 bits.
        picture.values = replace(values, white=65535)
    return picture


def _open_png(data: bytes, limit: int) -> Picture:
    file = png.read(data)
    check_pixels(file.size, "PNG", limit)
    image = _identified(file.data)
    grey = file.colours == 0
    if file.key is not None and grey and file.depth < 8:
        # Pillow spreads the values over 8 bits, and leaves the key as it is.
        image.info["transparency"] = file.key[0] * (255 // ((1 << file.depth) - 1))
    elif file.key is not None and file.depth == 8:
        image.info["transparency"] = file.key[0] if grey else file.key
    deep = grey and file.depth == 16
    values = Values(white=65535, key=file.key) if deep else Values()
    return Picture(image, values, file)


def _identified(data: bytes) -> ImageFile.ImageFile:
    with strict():
        return identify(io.BytesIO(data), data[:16])


def _check_strips(image: ImageFile.ImageFile) -> None:
    """Refuses a TIFF that decoders take for whole: strips are missing, or checksums are wrong.

    Where strips are missing, Pillow leaves black. Of a deflated strip, libtiff reads as much as
    it needs, and never the checksum at its end.
    """
    boxes = {tuple(tile[1]) for tile in image.tile if tile[1] is not None}
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    if area < image.width * image.height:
        raise ValueError("it is cut short: strips are missing")
    if image.info.get("compression") not in ("tiff_adobe_deflate", "tiff_deflate"):
        return
    assert isinstance(image.fp, io.BytesIO)
    # Not getbuffer(), a view that its file outlives badly where an error keeps both.
    data, most = memoryview(image.fp.getvalue()), 16 * image.width * image.height
    for offsets, lengths in ((273, 279), (324, 325)):  # of strips, of tiles
        places = (image.tag_v2.get(tag, ()) for tag in (offsets, lengths))  # type: ignore[attr-defined]
        for offset, length in zip(*places, strict=False):
            most -= inflated([data[offset : offset + length]], most)


def _without_oddities(data: bytes) -> tuple[bytes, Values]:
    """A TIFF file as if it lay upright and white were the highest value, and what it says.

    Pillow turns a TIFF while it loads it and fails where it cannot write all other tags back;
    and it forgets that white may be zero where there are more than 8 bits.
    """
    found = tags.first_directory(data)

    def take(tag: int, default: int) -> int:
        entry = found.get(tag)
        return default if entry is None else entry.value

    values = _values_of_tiff(take)
    wrong = [tags.ORIENTATION] if values.orientation != 1 else []
    if values.inverted:
        wrong.append(tags.PHOTOMETRIC)
    if wrong:
        patched = bytearray(data)
        for tag in wrong:
            if tag in found:
                found[tag].write(patched, 1)
        data = bytes(patched)
    return data, values


def of_image(image: Image.Image) -> Picture:
    """A picture of an image that its user has decoded or made."""
    if image.format == "TIFF":
        return Picture(image, _values_of_loaded_tiff(image), decoded=True)
    key = image.info.get("transparency")
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    values = Values(key=(key,)) if deep and isinstance(key, int) else None
    return Picture(image, values, decoded=True)


def _values_of_loaded_tiff(image: Image.Image) -> Values:
    directory = getattr(image, "tag_v2", {})

    def take(tag: int, default: int) -> int:
        value = directory.get(tag, default)
        value = value[0] if isinstance(value, tuple) and value else value
        return value if isinstance(value, int) else default

    # Pillow turns it upright when it loads it.
    return replace(_values_of_tiff(take), orientation=1)


def _values_of_tiff(take: Callable[[int, int], int]) -> Values:
    """What the tags of a TIFF say; ``take`` gives the value of a tag, or what else it is."""
    orientation = take(tags.ORIENTATION, 1)
    values = Values(orientation=orientation if orientation in range(1, 9) else 1)
    bits, kind = take(tags.BITS_PER_SAMPLE, 1), take(tags.SAMPLE_FORMAT, 1)
    photometric = take(tags.PHOTOMETRIC, 0)
    if photometric not in (0, 1):
        return values
    if kind == 2:
        why = f"a TIFF of signed {bits}-bit values has no agreed white; convert it to 8 bits first"
        return replace(values, no_white=why)
    if kind != 1 or not 8 < bits <= 32:
        return values
    highest = take(tags.MAX_SAMPLE_VALUE, 0)
    # 12 bits in 16, as cameras for microscopes write them; any other value is statistics.
    few = 255 < highest < (1 << bits) - 1 and highest & (highest + 1) == 0
    white = highest if few else (1 << bits) - 1
    return replace(values, white=white, inverted=photometric == 0)

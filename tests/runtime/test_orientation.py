"""Pictures are upright whatever else their EXIF holds, also where Pillow cannot turn them."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bareclip import IndexHit
from bareclip.images.pixels import read_pixels, thumbnail
from bareclip.show.page import Answer, sheet
from tests.runtime.files_of_pictures import encoded, exif, is_written, tiff, with_exif
from tests.runtime.test_preprocess import PLAIN
from tests.variants import picture

STORED = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}
UPRIGHT = picture(48, 32)
# Tags that Pillow reads and cannot write back, or cannot read: (number, type, count, value).
ODD = {
    "nothing": (),
    "XResolution is -1/0": (0x11A, 10, 1, struct.pack("<ii", -1, 0)),
    "XResolution is undefined": (0x11A, 7, 8, bytes(8)),
    "ImageWidth is -1": (0x100, 9, 1, struct.pack("<i", -1)),
    "Make is a float": (0x10F, 11, 1, struct.pack("<f", 1.5)),
    "an unknown type": (0x131, 77, 1, b"abcd"),
    "its value is beyond the file": (0x10F, 2, 100_000, b"\xff\xff\xff\x7f"),
    "GPS is no place of a directory": (0x8825, 4, 1, b"\xff\xff\xff\x7f"),
}


def stored(orientation: int) -> Image.Image:
    image = UPRIGHT
    for turn in STORED[orientation]:
        image = image.transpose(turn)
    return image


def seen(data: Any) -> NDArray[np.uint8]:
    return read_pixels(data, PLAIN, "as_seen")


# Pillow warns of odd EXIF; it is to be read all the same.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("orientation", STORED)
def test_a_jpeg_beside_any_other_tag(orientation: int, odd: str) -> None:
    others = [ODD[odd]] if ODD[odd] else []
    block = exif(*others, orientation=orientation)  # type: ignore[arg-type]
    jpeg = encoded(stored(orientation), "JPEG", quality=100, subsampling=0)
    upright = Image.open(io.BytesIO(jpeg))
    for turn in STORED[orientation][:1]:
        back = {Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
                Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90}.get(turn, turn)  # fmt: skip
        upright = upright.transpose(back)  # type: ignore[assignment]
    wanted = seen(upright.convert("RGB"))
    data = with_exif(jpeg, block)
    for given in (data, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(seen(given), wanted)


@pytest.mark.parametrize("orientation", STORED)
def test_formats_with_tags_of_their_own(orientation: int, tmp_path: Path) -> None:
    lying, wanted = stored(orientation), seen(UPRIGHT)
    tags = Image.Exif()
    tags[0x112] = orientation
    raw = np.asarray(lying).tobytes()
    # Three samples of 8 bits; a resolution that Pillow cannot write back.
    own = tiff(raw, lying.size, photometric=2, samples=3, orientation=orientation, t282=0)
    files = {
        "PNG": encoded(lying, "PNG", exif=tags),
        "WEBP": encoded(lying, "WEBP", lossless=True, exif=tags),
        "TIFF": own,
        "TIFF, big-endian": encoded(lying, "TIFF", exif=tags, compression="tiff_lzw"),
    }
    for name, data in files.items():
        np.testing.assert_array_equal(seen(data), wanted, name)
        (tmp_path / "x").write_bytes(data)
        np.testing.assert_array_equal(seen(tmp_path / "x"), wanted, name)
        small = np.asarray(thumbnail(data, 320))
        np.testing.assert_array_equal(small, np.asarray(UPRIGHT), name)


def test_as_stored_a_tiff_is_as_pillow_loads_it() -> None:
    for orientation in STORED:
        tags = Image.Exif()
        tags[0x112] = orientation
        data = encoded(stored(orientation), "TIFF", exif=tags)
        wanted = read_pixels(
            np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), PLAIN, "as_stored"
        )
        np.testing.assert_array_equal(read_pixels(data, PLAIN, "as_stored"), wanted)
        np.testing.assert_array_equal(wanted, seen(UPRIGHT))


@pytest.mark.filterwarnings("ignore")
def test_a_broken_exif_block_costs_the_orientation_alone() -> None:
    jpeg = encoded(UPRIGHT, "JPEG")
    wanted = seen(jpeg)
    whole = exif(orientation=6)
    broken = [whole[:n] for n in range(0, 26, 3)]
    broken += [b"Exif\0\0", b"Exif\0\0MM", exif(orientation=0), exif(orientation=9)]
    broken += [exif(orientation=65535), b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20)]
    for block in broken:
        np.testing.assert_array_equal(seen(with_exif(jpeg, block)), wanted)


def test_what_its_user_has_turned_is_not_turned_again() -> None:
    data = with_exif(encoded(stored(6), "JPEG", quality=100), exif(orientation=6))
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(seen(turned), seen(data))
    tags = Image.Exif()
    tags[0x112] = 6
    loaded = Image.open(io.BytesIO(encoded(stored(6), "TIFF", exif=tags)))
    loaded.load()
    np.testing.assert_array_equal(seen(loaded), seen(UPRIGHT))


def test_thumbnails_of_answers_are_upright(tmp_path: Path) -> None:
    half = Image.new("RGB", (400, 200), (200, 0, 0))
    half.paste((0, 0, 200), (0, 0, 200, 200))  # blue on the left: on top, once turned
    block = exif(ODD["XResolution is -1/0"], orientation=6)  # type: ignore[arg-type]
    path = tmp_path / "photo.jpg"
    path.write_bytes(with_exif(encoded(half, "JPEG", quality=95), block))
    small = thumbnail(path, 320)
    assert small.size == (160, 320)
    assert small.getpixel((80, 20))[2] > 150 > small.getpixel((80, 300))[2]
    drawn = sheet([Answer("a query", [IndexHit(str(path), 0.5, None)])])
    colours = np.asarray(drawn).astype(int)
    blue, red = (colours[..., c] - colours[..., 2 - c] > 100 for c in (2, 0))
    assert np.nonzero(blue)[0].max() <= np.nonzero(red)[0].min() + 1


@pytest.mark.skipif(not is_written("AVIF"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("orientation", STORED)
def test_avif(orientation: int) -> None:
    tags = Image.Exif()
    tags[0x112] = orientation
    data = encoded(stored(orientation), "AVIF", exif=tags, quality=100, subsampling="4:4:4")
    difference = seen(data).astype(int) - seen(UPRIGHT)
    assert np.abs(difference).max() <= 6

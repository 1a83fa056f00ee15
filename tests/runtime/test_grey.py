"""Grey of more than 8 bits, and colours that are transparent: as a viewer shows them."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bareclip import ImageError
from bareclip.images.pixels import read_pixels
from tests.runtime.files_of_pictures import chunk, encoded, png, tiff
from tests.runtime.test_preprocess import PLAIN, RECIPE
from tests.variants import picture

GREY = np.asarray(picture(40, 32).convert("L"))


def seen(data: Any) -> NDArray[np.uint8]:
    return read_pixels(data, RECIPE, "as_seen")


WANTED = seen(GREY)


def grey_tiff(bits: int, *, order: str = "<", white_is_zero: bool = False, **tags: int) -> bytes:
    """The grey picture scaled to the whole range of as many bits."""
    highest = (1 << bits) - 1
    values = (GREY.astype(np.uint64) * highest + 127) // 255
    if white_is_zero:
        values = highest - values
    raw = values.astype(f"{order}u{bits // 8}").tobytes()
    return tiff(raw, (40, 32), order=order, bits=bits, photometric=int(not white_is_zero), **tags)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_white_may_be_zero(bits: int, white_is_zero: bool, order: str) -> None:
    data = grey_tiff(bits, order=order, white_is_zero=white_is_zero)
    np.testing.assert_array_equal(seen(data), WANTED)
    if (bits, order) == (16, "<"):  # Pillow itself does not open the big-endian ones
        image = Image.open(io.BytesIO(data))
        image.load()
        np.testing.assert_array_equal(seen(image), WANTED)


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_32_bits_without_a_sign(white_is_zero: bool) -> None:
    np.testing.assert_array_equal(seen(grey_tiff(32, white_is_zero=white_is_zero)), WANTED)


@pytest.mark.parametrize("bits", [10, 12, 14, 15])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_fewer_bits_in_16_by_the_highest_sample(bits: int, white_is_zero: bool) -> None:
    highest = (1 << bits) - 1
    values = (GREY.astype(np.uint32) * highest + 127) // 255
    values = highest - values if white_is_zero else values
    photometric = int(not white_is_zero)
    raw = values.astype("<u2").tobytes()
    data = tiff(raw, (40, 32), bits=16, photometric=photometric, highest=highest)
    np.testing.assert_array_equal(seen(data), WANTED)


def test_a_highest_sample_that_is_statistics_is_no_white() -> None:
    for highest in (300, 40_000, 65_535):
        np.testing.assert_array_equal(seen(grey_tiff(16, highest=highest)), WANTED)


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_packed_12_bits(white_is_zero: bool) -> None:
    values = (GREY.astype(np.uint32) * 4095 + 127) // 255
    values = 4095 - values if white_is_zero else values
    even, odd = values[:, ::2], values[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], -1).astype(np.uint8)
    data = tiff(packed.tobytes(), (40, 32), bits=12, photometric=int(not white_is_zero))
    np.testing.assert_array_equal(seen(data), WANTED)


@pytest.mark.parametrize(("bits", "kind"), [(8, "i1"), (16, "<i2"), (32, "<i4")])
def test_signed_values_have_no_white(bits: int, kind: str) -> None:
    data = tiff(GREY.astype(kind).tobytes(), (40, 32), bits=bits, format=2)
    with pytest.raises(ImageError, match=f"signed {bits}-bit values has no agreed white"):
        seen(data)


def test_floats_have_no_white() -> None:
    data = tiff(GREY.astype("<f4").tobytes(), (40, 32), bits=32, format=3)
    with pytest.raises(ImageError, match="floats has no agreed white"):
        seen(data)


@pytest.mark.parametrize("highest", [255, 1000, 4095, 65535])
def test_a_pgm_says_itself_what_is_white(highest: int) -> None:
    values = (GREY.astype(np.uint32) * highest + 127) // 255
    raw = values.astype("u1" if highest < 256 else ">u2").tobytes()
    data = b"P5 40 32 %d\n" % highest + raw
    np.testing.assert_allclose(seen(data).astype(int), WANTED.astype(int), atol=1)


def test_a_dark_pgm_of_16_bits_is_dark() -> None:
    data = b"P5 8 8 65535\n" + np.full((8, 8), 200, ">u2").tobytes()
    assert (read_pixels(data, PLAIN, "as_seen") == 1).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("others_bits", [0, 1])
def test_the_colour_key_of_a_grey_png(depth: int, others_bits: int) -> None:
    highest = (1 << depth) - 1
    values = (GREY.astype(np.uint32) * highest + 127) // 255
    key = highest // 3
    values[8:20, 8:30] = key
    written = key if depth == 16 else key | others_bits << depth
    data = png(values, 0, depth, chunk(b"tRNS", struct.pack(">H", written)))
    shown = ((values * 255 + highest // 2) // highest).astype(np.uint8)
    shown[values == key] = 255
    np.testing.assert_array_equal(seen(data), seen(shown))


@pytest.mark.parametrize("depth", [8, 16])
def test_the_colour_key_of_an_rgb_png(depth: int) -> None:
    values = np.asarray(picture(40, 32)).astype(np.uint32) * (257 if depth == 16 else 1)
    values[8:20, 8:30] = key = (0x1234, 0x5678, 0x9ABC) if depth == 16 else (18, 86, 154)
    if depth == 16:
        values[24:28, 8:30] = (0x1235, 0x5678, 0x9ABC)  # another in its last bit
    data = png(values, 2, depth, chunk(b"tRNS", struct.pack(">HHH", *key)))
    shown = (values >> (depth - 8)).astype(np.uint8)
    shown[8:20, 8:30] = 255
    np.testing.assert_array_equal(seen(data), seen(shown))
    assert (shown[25, 10] != 255).all()


def test_a_16_bit_png_that_its_user_has_decoded() -> None:
    values = GREY.astype(np.uint32) * 257
    values[8:20, 8:30] = 7
    data = png(values, 0, 16, chunk(b"tRNS", struct.pack(">H", 7)))
    image = Image.open(io.BytesIO(data))
    image.load()
    np.testing.assert_array_equal(seen(image), seen(data))


def test_16_bit_grey_with_a_profile_and_turned() -> None:
    tags = Image.Exif()
    tags[0x112] = 6
    deep = Image.fromarray(np.ascontiguousarray(np.rot90(GREY)).astype(np.uint16) * 257)
    np.testing.assert_array_equal(seen(encoded(deep, "PNG", exif=tags)), WANTED)

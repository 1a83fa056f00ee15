import dataclasses
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import bareclip
from bareclip import ImageError
from bareclip.bundle import ImageRecipe
from bareclip.images.folders import image_files
from bareclip.images.inputs import describe
from bareclip.images.pixels import read_pixels, resized_size
from tests.machine import needs_posix
from tests.variants import SHAPES, VARIANTS, batch, picture

RECIPE = ImageRecipe(
    size=32,
    resize="shortest",
    resize_to=32,
    interpolation="bicubic",
    crop_offset="floor",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    scale=1 / 255,
    layout="uint8_nhwc",
)
PLAIN = dataclasses.replace(RECIPE, size=8, resize_to=8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seen(data: Any, recipe: ImageRecipe = PLAIN) -> NDArray[np.uint8]:
    return read_pixels(data, recipe, "as_seen")


def test_geometry_equals_the_reference_processor(variant: str, goldens: dict[str, Any]) -> None:
    size = VARIANTS[variant].image
    recipe = dataclasses.replace(RECIPE, size=size, resize_to=size)
    images: list[Any] = [*batch(size, 6), *(picture(*shape) for shape in SHAPES)]
    for index, image in enumerate(images):
        wanted = goldens[f"{variant}.pixels.{index}"]
        for reading in ("as_seen", "as_stored"):
            np.testing.assert_array_equal(read_pixels(image, recipe, reading), wanted)


def test_all_kinds_of_input_give_the_same_pixels(tmp_path: Path) -> None:
    image = picture(60, 40)
    data = encoded(image)
    path = tmp_path / "naïve 東京.png"
    path.write_bytes(data)
    wanted = seen(image)
    with path.open("rb") as file:
        inputs = [path, str(path), data, bytearray(data), memoryview(data), file, np.asarray(image)]
        for given in inputs:
            np.testing.assert_array_equal(seen(given), wanted)


def test_grey_arrays_and_grey_files(tmp_path: Path) -> None:
    grey = picture(20, 20).convert("L")
    np.testing.assert_array_equal(seen(np.asarray(grey)), seen(grey.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_seen_only(orientation: int) -> None:
    upright = picture(24, 16)
    turned = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    stored = upright.transpose(turned[0]) if turned else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, "PNG", exif=exif)
    np.testing.assert_array_equal(seen(data), seen(upright))
    np.testing.assert_array_equal(read_pixels(data, PLAIN, "as_stored"), seen(stored))


def test_transparency_lies_over_white_as_seen_only() -> None:
    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([9, 9, 9])
    assert (seen(encoded(clear)) == 255).all()
    assert (seen(encoded(half)) == 127).all()
    assert (seen(encoded(palette, transparency=0)) == 255).all()
    assert (seen(encoded(Image.new("LA", (8, 8), (10, 0)))) == 255).all()
    assert (read_pixels(encoded(clear), PLAIN, "as_stored") == [200, 0, 0]).all()


def test_16_bit_grey_is_scaled_as_seen_and_clipped_as_stored() -> None:
    values = np.full((8, 8), 0x8080, np.uint16)
    data = encoded(Image.fromarray(values))
    assert (seen(data) == 128).all()
    assert (read_pixels(data, PLAIN, "as_stored") == 255).all()
    assert (seen(encoded(Image.fromarray(values), "TIFF")) == 128).all()


def test_cmyk_palette_and_the_first_frame() -> None:
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert (np.abs(seen(encoded(cmyk, "TIFF")).astype(int) - [255, 0, 0]) <= 1).all()
    frames = [Image.new("RGB", (8, 8), c) for c in ((10, 20, 30), (200, 0, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    for reading in ("as_seen", "as_stored"):
        assert (read_pixels(data, PLAIN, reading) == [10, 20, 30]).all()


def test_squash_stretches_where_shortest_crops() -> None:
    image = picture(90, 30)
    squash = dataclasses.replace(RECIPE, resize="squash")
    wanted = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(seen(image, squash), wanted)
    assert not np.array_equal(seen(image, RECIPE), wanted)


def test_the_two_ways_of_rounding_half_a_pixel() -> None:
    # 35 wide to a crop of 32: an offset of 1.5, floored to 1 or rounded to 2.
    image = picture(35, 32)
    whole = np.asarray(image)
    np.testing.assert_array_equal(seen(image, RECIPE), whole[:, 1:33])
    rounded = dataclasses.replace(RECIPE, crop_offset="round")
    np.testing.assert_array_equal(seen(image, rounded), whole[:, 2:34])


def test_resize_larger_than_the_crop() -> None:
    recipe = dataclasses.replace(RECIPE, resize_to=40)
    image = picture(80, 40)
    np.testing.assert_array_equal(seen(image, recipe), np.asarray(image)[4:36, 24:56])


def test_the_long_side_is_truncated() -> None:
    assert resized_size(97, 61, RECIPE) == (50, 32)  # 50.88
    assert resized_size(61, 97, RECIPE) == (32, 50)


def test_an_absurd_canvas_is_refused_by_size() -> None:
    strip = Image.new("L", (60_000, 1))
    recipe = dataclasses.replace(RECIPE, size=224, resize_to=224)
    with pytest.raises(ImageError, match="60000x1: resized .* 13440000x224, over"):
        seen(strip, recipe)
    assert seen(Image.new("L", (200, 1)), recipe).shape == (224, 224, 3)


def test_a_very_large_image_is_read() -> None:
    assert seen(Image.new("RGB", (9000, 6000), (7, 8, 9))).tolist()[0][0] == [7, 8, 9]


def test_a_decompression_bomb_is_refused() -> None:
    clean = encoded(Image.new("L", (8, 8)))
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + clean[24:29]
    bomb = clean[:12] + header + struct.pack(">I", zlib.crc32(header)) + clean[33:]
    with pytest.raises(ImageError, match="decompression bomb"):
        seen(bomb)


def test_postscript_never_reaches_ghostscript(tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (tmp_path / "x.jpg").write_bytes(eps)
    for given in (eps, tmp_path / "x.jpg"):
        with pytest.raises(ImageError, match="in no image format"):
            seen(given)
    assert image_files(tmp_path) == [tmp_path / "x.jpg"]
    (tmp_path / "x.eps").write_bytes(eps)
    (tmp_path / "x.pdf").write_bytes(b"%PDF-1.4")
    assert image_files(tmp_path) == [tmp_path / "x.jpg"]


def test_a_broken_exif_block_costs_only_the_orientation() -> None:
    image = picture(20, 20)
    data = encoded(image, exif=b"Exif\0\0not a tiff header")
    np.testing.assert_array_equal(seen(data), seen(image))


def test_greys_of_32_bits() -> None:
    small = Image.fromarray(np.full((8, 8), 200, np.int32))
    large = Image.fromarray(np.full((8, 8), 0x8080, np.int32))
    assert (seen(small) == 200).all()
    assert (seen(large) == 128).all()
    with pytest.raises(ImageError, match="floats has no agreed white"):
        seen(Image.fromarray(np.full((8, 8), 0.5, np.float32)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_broken_files_of_every_kind_name_themselves(tmp_path: Path, kind: str) -> None:
    data = encoded(picture(64, 64), kind)
    path = tmp_path / "broken.img"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"cannot read image .*broken\.img: "):
        seen(path)


def test_flipped_bits_never_escape_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "ICO", "PPM", "TGA"):
        clean = np.frombuffer(encoded(picture(40, 40), kind), np.uint8)
        for _ in range(25):
            data = clean.copy()
            data[rng.integers(0, len(data), 8)] ^= rng.integers(1, 256, 8, dtype=np.uint8)
            try:
                assert seen(data.tobytes()).shape == (8, 8, 3)
            except ImageError as error:
                assert str(error).startswith("cannot ")  # noqa: PT017 (either may happen)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "the bytes are empty"),
        (b"not a picture", "13 bytes: it is in no image format that Pillow reads"),
        (7, "an image is a path, bytes, .* not int"),
        (None, "not NoneType"),
        (np.zeros((4, 4, 3), np.float32), r"must be uint8 .* not float32 of shape \(4, 4, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"not uint8 of shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), "must be uint8"),
        ("https://example.org/cat.jpg", "is an address; download it"),
        ("/no/such/cat.jpg", "cat.jpg: it does not exist"),
        (Path("/"), "it is not a file"),
        pytest.param("x" * 300, "File name too long", marks=needs_posix),
    ],
)
def test_what_is_no_image(given: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        seen(given)


@needs_posix
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"pipe.jpg: it is not a file"):
        seen(tmp_path / "pipe.jpg")


def test_an_unknown_reading(bundles: dict[str, Path]) -> None:
    with pytest.raises(ImageError, match="'raw' is unknown; it is 'as_seen' or 'as_stored'"):
        bareclip.load(bundles["tiny"], reading="raw")  # type: ignore[arg-type]


def test_describe_names_what_was_given(tmp_path: Path) -> None:
    assert describe(Path("a/b.png")) == "a/b.png"
    assert describe(b"abc") == "3 bytes"
    assert describe(np.zeros((2, 2), np.uint8)) == "array (2, 2) uint8"
    assert describe(Image.new("L", (1, 1))) == "Image"


def test_openais_own_preprocessing(data: Path) -> None:
    """Franz Kafka as OpenAI's transform makes him: difference 0."""
    folder = data / "preprocess-golden"
    recipe = dataclasses.replace(RECIPE, size=224, resize_to=224, crop_offset="round")
    found = read_pixels(folder / "franz-kafka.jpg", recipe, "as_stored").astype(np.float32) / 255
    mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
    wanted = np.load(folder / "expected_preprocessed_image.npy")
    np.testing.assert_array_equal(((found - mean) / std).transpose(2, 0, 1), wanted.squeeze())


@pytest.mark.parametrize("size", [(1280, 960), (1283, 961), (967, 1291), (257, 250), (2049, 131)])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_a_jpeg_decoded_small_gives_nearly_the_same_pixels(
    size: tuple[int, int], orientation: int, resize: Any
) -> None:
    recipe = dataclasses.replace(RECIPE, resize=resize)
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = picture(80, 60).resize(size, Image.Resampling.LANCZOS)
    for mode in ("RGB", "L", "CMYK"):
        data = encoded(smooth.convert(mode), "JPEG", quality=95, exif=exif)
        found = read_pixels(data, recipe, "as_seen", scaled=True).astype(int)
        # A margin of two: what is left of the frequencies differs by a few levels.
        assert np.abs(found - read_pixels(data, recipe, "as_seen")).max() <= 12


@pytest.mark.parametrize(("kind", "size"), [("PNG", (1280, 960)), ("JPEG", (127, 127))])
def test_what_is_no_large_jpeg_is_not_decoded_small(kind: str, size: tuple[int, int]) -> None:
    data = encoded(picture(*size), kind)
    found = read_pixels(data, RECIPE, "as_seen", scaled=True)
    np.testing.assert_array_equal(found, seen(data, RECIPE))

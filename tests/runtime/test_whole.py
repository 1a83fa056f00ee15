"""Nothing is embedded that did not decode whole; what a viewer shows is read."""

import contextlib
import gc
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

import bareclip
from bareclip import ImageError
from bareclip.images.pixels import read_pixels
from tests.runtime.files_of_pictures import chunk, encoded, png, tiff
from tests.runtime.test_preprocess import RECIPE
from tests.variants import picture

PICTURE = picture(96, 80)
PIXELS = np.asarray(PICTURE)


def seen(data: Any) -> NDArray[np.uint8]:
    return read_pixels(data, RECIPE, "as_seen")


def bad_sector(data: bytes, share: float, length: int = 200) -> bytes:
    at = int(len(data) * share)
    return data[:at] + bytes(length) + data[at + length :]


def without(name: bytes, data: bytes) -> bytes:
    at = data.index(name) - 4
    (length,) = struct.unpack_from(">I", data, at)
    return data[:at] + data[at + length + 12 :]


def partial() -> dict[str, bytes]:
    """Files that some decoder takes for whole, by what is wrong with them."""
    flat = encoded(Image.new("RGB", (64, 64), (9, 9, 9)), "JPEG")
    strips = tiff(PIXELS.tobytes(), PICTURE.size, photometric=2, samples=3)
    # One strip of ten rows is all that its directory names.
    few_rows = strips.replace(
        struct.pack("<HHII", 278, 4, 1, 80), struct.pack("<HHII", 278, 4, 1, 10)
    )
    deflated = encoded(PICTURE, "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: 8})
    interlaced = bytearray(png(PIXELS, 2, 8, rows=80))
    interlaced[28] = 1
    interlaced[29:33] = struct.pack(">I", zlib.crc32(interlaced[12:29]))
    return {
        "PNG, a bad sector": bad_sector(encoded(PICTURE), 0.4),
        "PNG, one bit of its pixels": bytes(
            byte ^ (index == 900) for index, byte in enumerate(encoded(PICTURE))
        ),
        "PNG, half its rows": png(PIXELS, 2, 8, rows=40),
        "PNG, all but the last row": png(PIXELS, 2, 8, rows=79),
        "PNG of 16 bits, half its rows": png(PIXELS.astype(np.uint32) * 257, 2, 16, rows=40),
        "PNG, no row": png(PIXELS, 2, 8, rows=0),
        "PNG, interlaced, passes are missing": bytes(interlaced),
        "PNG, no IDAT": without(b"IDAT", encoded(PICTURE)),
        "PNG, no PLTE": without(b"PLTE", encoded(PICTURE.quantize(32))),
        "JPEG, zeros for its second half": bad_sector(encoded(PICTURE, "JPEG"), 0.5, 1 << 20)[
            : 1 << 12
        ],
        "JPEG, flat, zeros for its end": flat[: flat.rindex(b"\xff\xda") + 20] + bytes(500),
        "TIFF, strips without a place": few_rows,
        "TIFF, a broken later strip": bad_sector(deflated, 0.6, 60),
        "GIF, cut in its frame": encoded(PICTURE, "GIF")[:-200],
        "ICO, a PNG within with a bad sector": bad_sector(encoded(PICTURE, "ICO"), 0.9, 30),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", partial())
def test_what_is_not_whole_is_refused_every_way_and_again(damage: str, tmp_path: Path) -> None:
    data = partial()[damage]
    path = tmp_path / "folder" / "x.png"
    path.parent.mkdir()
    path.write_bytes(data)
    clip = bareclip.load()
    ways: list[Any] = [path, data, io.BytesIO(data)]
    with contextlib.suppress(OSError):
        ways.append(Image.open(io.BytesIO(data)))
    for way in ways * 2:  # the second time, Pillow says nothing of the same image object
        with pytest.raises(ImageError, match="cannot read image"):
            clip.embed_images([way])
    with bareclip.Index.open(tmp_path / "photos.db", clip) as index:
        report = index.sync(path.parent)
        assert (report.added, len(report.failures)) == (0, 1)


@pytest.mark.filterwarnings("ignore")
def test_the_programs_switch_for_truncated_files_changes_no_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    cut = {kind: encoded(PICTURE, kind)[:-300] for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF")}
    for data in [*cut.values(), *partial().values()]:
        with pytest.raises(ImageError):
            seen(data)
        with pytest.raises(ImageError):
            seen(Image.open(io.BytesIO(data)) if data is cut["JPEG"] else data)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    # The program's own images go on being read as it wants them.
    Image.open(io.BytesIO(cut["JPEG"])).load()


def test_the_switch_holds_for_other_threads_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    cut = encoded(PICTURE, "JPEG")[:-300]
    done, failures = threading.Event(), []

    def program() -> None:
        while not done.is_set():
            try:
                Image.open(io.BytesIO(cut)).load()
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=program)
    thread.start()
    for _ in range(50):
        with pytest.raises(ImageError):
            seen(cut)
    done.set()
    thread.join()
    assert failures == []


@pytest.mark.parametrize("damage", ["TIFF, a broken later strip", "PNG, a bad sector"])
def test_what_was_refused_is_let_go(damage: str) -> None:
    """Python 3.13 and newer complain, on stderr, of a file that is still looked into."""

    def refused() -> None:
        try:
            seen(partial()[damage])
        except ImageError as error:
            kept: list[Any] = [error]
            kept.append(kept)  # as whoever keeps an error may: it goes when garbage is collected

    refused()
    gc.collect()


def test_an_animation_is_its_first_frame_whatever_follows() -> None:
    frames = [PICTURE, picture(96, 80, seed=1)]
    whole = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(seen(whole[:-300]), seen(whole))


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG", "MPO"])
def test_an_image_that_its_user_has_moved_to_another_frame(kind: str) -> None:
    frames = [picture(96, 80, seed=seed) for seed in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if Image.open(io.BytesIO(data)).format != kind:
            pytest.skip("this Pillow writes such files as it cannot read, as 10.1 does MPO")
    image, other = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    for which in (2, 1):
        image.seek(which)
        other.seek(which)
        wanted = seen(other.convert("RGB"))
        for _ in range(2):
            np.testing.assert_array_equal(seen(image), wanted)


def test_an_image_that_its_user_has_drafted_or_drawn_on() -> None:
    data = encoded(PICTURE.resize((960, 800)), "JPEG")
    drafted = Image.open(io.BytesIO(data))
    drafted.draft("L", (100, 100))
    assert np.ptp(seen(drafted).astype(int), axis=2).max() == 0
    drawn = Image.open(io.BytesIO(data))
    drawn.paste((1, 2, 3), (0, 0, *drawn.size))
    assert (seen(drawn) == [1, 2, 3]).all()


def test_an_image_is_left_as_it_was(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        first = seen(image)
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
        np.testing.assert_array_equal(seen(image), first)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_an_image_whose_file_is_closed(kind: str, tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "x", kind)
    with Image.open(tmp_path / "x") as closed:
        pass
    with (tmp_path / "x").open("rb") as file:
        lost = Image.open(file)
    for image in (closed, lost):
        with pytest.raises(ImageError, match="it was closed before|file was closed before"):
            seen(image)


@pytest.mark.parametrize("text", ["/etc/hostname", "", "not a path"])
def test_a_text_file_is_no_path(text: str, tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "x.png")
    for given in (
        io.StringIO(text or str(tmp_path / "x.png")),
        (tmp_path / "x.png").open("r", encoding="latin-1"),
    ):
        with given, pytest.raises(ImageError, match="it gives str, not bytes; pass a binary file"):
            seen(given)


def test_formats_that_are_not_opened_are_named() -> None:
    data = encoded(PICTURE.convert("1"), "XBM")
    with pytest.raises(ImageError, match="in no image format"):
        seen(data)
    image = Image.open(io.BytesIO(data))
    with pytest.raises(ImageError, match=r"the format XBM are not opened here; call its load\(\)"):
        seen(image)
    image.load()
    np.testing.assert_array_equal(seen(image), seen(PICTURE.convert("1")))


def test_texts_of_a_png_cost_nothing() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * (3 << 20), zip=True)
    info.add_itxt("prompt", "y" * (3 << 20), zip=True)
    info.add_itxt("parameters", "z" * (70 << 20))
    texts = encoded(PICTURE, pnginfo=info)
    body, xmp = PIXELS, b"XML:com.adobe.xmp\0\1\0\0\0"
    broken = {
        "more than Pillow takes": texts,
        "a bomb": png(body, 2, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20)))),
        "no end of its key": png(body, 2, 8, chunk(b"tEXt", b"k" * 300)),
        "another compression": png(body, 2, 8, chunk(b"zTXt", b"k\0\7zzz")),
        "a wrong checksum": png(body, 2, 8, chunk(b"tEXt", b"k\0v")[:-4] + b"oops"),
        "short physical size": png(body, 2, 8, chunk(b"pHYs", b"1")),
        "short gamma": png(body, 2, 8, chunk(b"gAMA", b"")),
        "XMP, a bomb": png(body, 2, 8, chunk(b"iTXt", xmp + zlib.compress(bytes(9 << 20)))),
    }  # fmt: skip
    for name, data in broken.items():
        np.testing.assert_array_equal(seen(data), seen(PICTURE), name)


def test_a_text_that_says_how_the_picture_lies_is_read() -> None:
    xmp = '<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp)
    turned = PICTURE.transpose(Image.Transpose.ROTATE_180)
    np.testing.assert_array_equal(seen(encoded(turned, pnginfo=info)), seen(PICTURE))


@pytest.mark.skipif(sys.platform == "win32", reason="there Pillow hides libtiff")
def test_libtiff_says_nothing_and_others_do(tmp_path: Path) -> None:
    """In a process of its own, whose standard error is a file descriptor like any other."""
    for number in range(20):
        data = bytearray(encoded(PICTURE, "TIFF", compression="tiff_adobe_deflate"))
        data[20 + number : 200 + number] = bytes(180)
        (tmp_path / f"{number}.tif").write_bytes(data)
    code = """
import os, sys, threading, bareclip
from pathlib import Path
from PIL import Image
paths = sorted(Path(sys.argv[1]).glob("*.tif"))
found = bareclip.load().embed_images(paths, on_error="skip")
assert len(found.failures) == 20, found
os.write(2, b"another's message\\n")
try:
    Image.open(paths[0]).load()  # the program's own
except OSError:
    pass
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        env=environment,
        check=True,
    )
    first, _, rest = done.stderr.partition(b"another's message\n")
    assert first == b""
    assert rest.startswith(b"ZIPDecode")

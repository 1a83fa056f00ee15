"""What would take minutes or gigabytes is refused before it is decoded."""

import json
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip import BundleError, ImageError
from bareclip.images import limits
from bareclip.images.limits import PixelBudget
from bareclip.images.pixels import read_pixels
from tests.runtime.files_of_pictures import chunk, encoded, is_written, tiff
from tests.runtime.test_preprocess import PLAIN, RECIPE
from tests.variants import picture

SIDE = 20_000


def png_of(width: int, height: int) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1 << 16)))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")


def icon(inner: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def bombs() -> dict[str, bytes]:
    """Small files that say they are large, each as its format says it."""
    bitmap = struct.pack("<IiiHHIIiiII", 40, SIDE, 2 * SIDE, 1, 32, 0, 0, 0, 0, 0, 0)
    large = struct.pack("<HH", SIDE, SIDE)
    extended = encoded(Image.new("RGBA", (9, 9)), "WEBP", exif=b"Exif\0\0II*\0")
    found = {
        "PNG": png_of(SIDE, SIDE),
        "ICO of a PNG": icon(png_of(SIDE, SIDE)),
        "ICO of a bitmap": icon(bitmap),
        "WebP, lossless": encoded(Image.new("RGBA", (9, 9)), "WEBP", lossless=True),
        "WebP, lossy": encoded(Image.new("RGB", (9, 9)), "WEBP"),
        "WebP, extended": extended,
        "GIF": encoded(Image.new("P", (9, 9)), "GIF"),
        "BMP": encoded(Image.new("RGB", (9, 9)), "BMP"),
        "TIFF": tiff(bytes(99), (SIDE, SIDE)),
        "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 4, SIDE, SIDE, 8, 3) + bytes(99),
        "PPM": b"P6 20000 20000 255\n" + bytes(99),
        "TGA": b"\0\0\x0a" + bytes(9) + large + b"\x20\0",
        "JPEG 2000": encoded(Image.new("RGB", (9, 9)), "JPEG2000"),
    }  # fmt: skip

    def put(name: str, at: int, form: str, *values: int) -> None:
        data = bytearray(found[name])
        struct.pack_into(form, data, at, *values)
        found[name] = bytes(data)

    put("WebP, lossless", 21, "<I", 16_382 | 16_382 << 14 | 1 << 28)
    put("WebP, lossy", 26, "<HH", 16_383, 16_383)
    put("WebP, extended", 24, "<HBHB", 16_382, 0, 16_382, 0)
    put("GIF", 6, "<HH", SIDE, SIDE)
    put("BMP", 18, "<ii", SIDE, SIDE)
    put("JPEG 2000", found["JPEG 2000"].index(b"ihdr") + 4, ">II", SIDE, SIDE)
    if is_written("AVIF"):
        found["AVIF"] = encoded(Image.new("RGB", (9, 9)), "AVIF")
        put("AVIF", found["AVIF"].index(b"ispe") + 8, ">II", SIDE, SIDE)
    return found


@pytest.mark.parametrize("kind", bombs())
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    with pytest.raises(ImageError, match=r"it has \d+x\d+ pixels, more than .* decompression bomb"):
        read_pixels(bombs()[kind], PLAIN, "as_seen")


def test_pillows_own_limit_is_another_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    read_pixels(encoded(picture(40, 40)), PLAIN, "as_seen")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="20000x20000"):
        read_pixels(bombs()["PNG"], PLAIN, "as_seen")


def test_the_limit_is_an_option_and_counts_what_is_decoded() -> None:
    smooth = picture(60, 80).resize((960, 1280))
    png, jpeg = encoded(smooth), encoded(smooth, "JPEG", quality=95)
    few = {"max_pixels": 200_000}
    with pytest.raises(ImageError, match="960x1280 pixels, more than the 200,000 of PNG"):
        read_pixels(png, PLAIN, "as_seen", **few)
    # At an eighth it has 19,200 pixels, which is what is decoded, and enough for this model.
    found = read_pixels(jpeg, PLAIN, "as_seen", **few).astype(int)
    assert np.abs(found - read_pixels(jpeg, PLAIN, "as_seen")).max() <= 12
    # For this one, a half is what leaves twice its size; that has 307,200.
    large = RECIPE.__class__(**{**RECIPE.__dict__, "size": 224, "resize_to": 224})
    with pytest.raises(ImageError, match="480x640 pixels, more than the 200,000 of JPEG"):
        read_pixels(jpeg, large, "as_seen", **few)
    with pytest.raises(ImageError, match="120x160 pixels, more than the 10,000 of JPEG"):
        read_pixels(jpeg, PLAIN, "as_seen", max_pixels=10_000)


def test_a_jpeg_of_200_megapixels_is_read() -> None:
    # One row of blocks for all: what takes long is to write it, not to read it.
    image = Image.new("RGB", (16_320, 12_240), (40, 90, 160))
    data = encoded(image, "JPEG", quality=60)
    found = read_pixels(data, PLAIN, "as_seen").astype(int)
    assert np.abs(found - [40, 90, 160]).max() <= 2


def test_a_jpeg_of_thousands_of_scans() -> None:
    data = encoded(picture(64, 64).convert("L"), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    scan = data[at:-2]
    read_pixels(data[:-2] + scan * 50 + data[-2:], PLAIN, "as_seen")
    with pytest.raises(ImageError, match="more than 100 scans"):
        read_pixels(data[:-2] + scan * 20_000 + data[-2:], PLAIN, "as_seen")


@pytest.mark.parametrize("filling", [b"\xff", b"\x11"])
@pytest.mark.parametrize("where", ["start", "scan", "data"])
def test_a_jpeg_of_filling(filling: bytes, where: str) -> None:
    data = encoded(picture(64, 64), "JPEG")
    scan = data.rindex(b"\xff\xda")
    at = {"start": 20, "scan": scan, "data": len(data) - 2}[where]
    few = data[:at] + filling * 9 + data[at:]
    if where != "data":
        read_pixels(few, PLAIN, "as_seen")
    if (filling, where) != (b"\x11", "data"):  # what is left of a scan is skipped at once
        with pytest.raises(ImageError, match="belong to nothing"):
            read_pixels(data[:at] + filling * (20 << 20) + data[at:], PLAIN, "as_seen")


def test_a_strip_that_would_grow_is_refused_before_it_is_decoded() -> None:
    squash = RECIPE.__class__(**{**RECIPE.__dict__, "resize": "squash"})
    for recipe in (RECIPE, squash):
        with pytest.raises(ImageError, match="1x50000000: resized for this model"):
            read_pixels(png_of(1, 50_000_000), recipe, "as_seen")


def test_a_bundle_of_enormous_pictures_is_refused(tmp_path: Path) -> None:
    shutil.copytree(bareclip.load().bundle.folder, tmp_path / "bundle")
    manifest = tmp_path / "bundle" / "bundle.json"
    recipe = json.loads(manifest.read_text())
    recipe["image"] |= {"size": 8000, "resize_to": 8000}
    manifest.write_text(json.dumps(recipe))
    with pytest.raises(BundleError, match="an image size of at least 1, .* up to 2048"):
        bareclip.load(tmp_path / "bundle")


def test_a_budget_is_never_exceeded_and_lets_everyone_in() -> None:
    budget, guard = PixelBudget(10), threading.Lock()
    held: list[int] = []
    seen: list[list[int]] = []
    rng = np.random.default_rng(3)

    def work(sizes: list[int]) -> None:
        for size in sizes:
            with budget.hold(size):
                with guard:
                    held.append(size)
                    seen.append(list(held))
                time.sleep(0.0005)
                with guard:
                    held.remove(size)

    # Some larger than the whole budget: those are let in alone.
    plans = [rng.choice([1, 3, 6, 10, 25], 40).tolist() for _ in range(8)]
    threads = [threading.Thread(target=work, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(seen) == 320
    assert all(sum(sizes) <= 10 or len(sizes) == 1 for sizes in seen)
    assert any(len(sizes) > 1 for sizes in seen)


def test_an_error_gives_its_pixels_back() -> None:
    cut = encoded(picture(300, 300), "JPEG")[:-200]
    for _ in range(3):
        with pytest.raises(ImageError):
            read_pixels(cut, PLAIN, "as_seen")
    assert limits.BUDGET._held == 0


# VmHWM, not getrusage, whose peak begins with that of the process that started this one.
MEASURE = r"""
import re, sys
from concurrent.futures import ThreadPoolExecutor
import bareclip
from bareclip.images.pixels import read_pixels
from PIL import Image
def peak():
    return int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) // 1024
recipe = bareclip.load().images.recipe
read_pixels(bareclip.__path__[0] + "/demo/pictures/cat.png", recipe, "as_seen")
before, data = peak(), sys.stdin.buffer.read()
with ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda _: read_pixels(data, recipe, "as_seen"), range(2)))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_two_threads_hold_little_more_than_what_is_decoded() -> None:
    """40 megapixels with alpha: 160 MB as decoded, and once 700 MB of copies for each thread."""
    data = encoded(Image.new("RGBA", (8000, 5000), (1, 2, 3, 4)), compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], input=data, capture_output=True, check=True
    )
    assert int(done.stdout) < 520

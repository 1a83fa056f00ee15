"""Colour profiles: a picture is seen as a viewer shows it, whatever its numbers are of."""

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

import bareclip
from bareclip.images import colour
from bareclip.images.pixels import read_pixels, thumbnail
from tests.runtime.files_of_pictures import chunk, encoded, is_written, png
from tests.runtime.test_preprocess import RECIPE
from tests.variants import picture

# Primaries in XYZ under D50, red, green, blue: of IEC 61966-2-1, SMPTE EG 432-1, ROMM RGB.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
PROPHOTO = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))
D50 = (0.9642, 1.0, 0.8249)
# As a parametric curve, type 3 of ICC.1: gamma, a, b, c, d.
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile(
    primaries: tuple[tuple[float, ...], ...] | None,
    curve: tuple[float, ...] = SRGB_CURVE,
    space: bytes = b"RGB ",
) -> bytes:
    """A version 4 profile of three primaries, or of grey, and one curve."""

    def fixed(values: tuple[float, ...]) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    kind = {1: 0, 5: 3}[len(curve)]
    bent = b"para" + bytes(4) + struct.pack(">HH", kind, 0) + fixed(curve)
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(D50)}
    if primaries is None:
        tags[b"kTRC"] = bent
    else:
        for name, primary in zip("rgb", primaries, strict=True):
            tags[f"{name}XYZ".encode()] = b"XYZ " + bytes(4) + fixed(primary)
            tags[f"{name}TRC".encode()] = bent
    text = "made for a test".encode("utf-16-be")
    words = b"mluc" + bytes(4) + struct.pack(">IIHHII", 1, 12, 0x656E, 0x5553, len(text), 28) + text
    tags |= {b"desc": words, b"cprt": words}
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    size = struct.pack(">I", start + len(data))
    head = size + bytes(4) + struct.pack(">I", 0x04300000) + b"mntr" + space + b"XYZ "
    head += bytes(12) + b"acsp" + bytes(28) + fixed(D50)
    return head.ljust(128, b"\0") + table + data


def in_space(image: Image.Image, primaries: tuple[tuple[float, ...], ...]) -> Image.Image:
    """The same colours, with the numbers of another space that has sRGB's curve; in float64."""
    linear = np.asarray(image).astype(np.float64) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    linear = linear @ np.array(SRGB) @ np.linalg.inv(np.array(primaries))
    linear = linear.clip(0, 1)
    curved = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return Image.fromarray((curved * 255 + 0.5).astype(np.uint8))


def seen(data: Any) -> NDArray[np.uint8]:
    return read_pixels(data, RECIPE, "as_seen")


@pytest.fixture(scope="module")
def clip() -> bareclip.Clip:
    return bareclip.load()


@pytest.mark.parametrize("primaries", [P3, PROPHOTO], ids=["Display P3", "ProPhoto"])
def test_a_wide_gamut_version_embeds_like_its_srgb_original(
    clip: bareclip.Clip, primaries: Any
) -> None:
    original = picture(96, 80)
    other = in_space(original, primaries)
    files = [
        encoded(original),
        encoded(other, icc_profile=profile(primaries)),
        encoded(other),
    ]
    right, converted, ignored = clip.embed_images(files)
    assert right @ converted > 0.999
    assert right @ ignored < right @ converted - 0.0005
    difference = np.abs(seen(files[1]).astype(int) - seen(files[0]))
    # ProPhoto has few of its numbers within sRGB: what it rounds shows.
    assert difference.mean() <= 1.5
    stored = read_pixels(files[1], RECIPE, "as_stored")
    np.testing.assert_array_equal(stored, read_pixels(files[2], RECIPE, "as_stored"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_format_that_carries_profiles(kind: str) -> None:
    if not is_written(kind):
        pytest.skip("this Pillow has no AVIF")
    other = in_space(picture(96, 80), P3)
    tagged = seen(encoded(other, kind, icc_profile=profile(P3))).astype(int)
    untagged = seen(encoded(other, kind)).astype(int)
    shown = np.asarray(
        ImageCms.profileToProfile(
            Image.fromarray(untagged.astype(np.uint8)),
            ImageCms.ImageCmsProfile(io.BytesIO(profile(P3))),
            ImageCms.createProfile("sRGB"),
        )
    )
    # Converted before it is resized, not after.
    assert np.abs(tagged - shown).mean() < 1.5
    assert np.abs(tagged - untagged).max() > 8


def test_profiles_of_srgb_change_no_bit() -> None:
    image = picture(96, 80)
    wanted = seen(image)
    gamma = (2.4, 0.948, 0.052, 0.0774, 0.0404)  # rounded, as in small profiles
    for name, data in {
        "LittleCMS's own": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "ours": profile(SRGB),
        "rounded": profile(SRGB, gamma),
        "primaries to three digits": profile(
            ((0.436, 0.222, 0.014), (0.385, 0.717, 0.097), (0.143, 0.061, 0.714))
        ),
    }.items():
        np.testing.assert_array_equal(seen(encoded(image, icc_profile=data)), wanted, name)


def test_a_profile_of_no_use_costs_itself_alone() -> None:
    image = picture(96, 80)
    whole = profile(P3)
    rng = np.random.default_rng(7)
    noise = whole[:128] + rng.integers(0, 256, 400, dtype=np.uint8).tobytes()
    useless = {
        "empty": b"",
        "cut": whole[:200],
        "noise": noise,
        "no profile": b"not a profile" * 20,
        "of grey": profile(None, (2.2,), b"GRAY"),
        "of CMYK": whole[:16] + b"CMYK" + whole[20:],
        "a link": whole[:12] + b"link" + whole[16:],
        "5 MB": whole + bytes(5 << 20),
        "a table of 4 billion": whole[:128] + b"\xff\xff\xff\xff" + whole[132:],
    }
    jpeg = seen(encoded(image, "JPEG"))
    for name, data in useless.items():
        np.testing.assert_array_equal(seen(encoded(image, "JPEG", icc_profile=data)), jpeg, name)
    # In a PNG they are compressed, and what is large was refused with the picture.
    for name, body in {
        **{name: b"x\0\0" + zlib.compress(data) for name, data in useless.items()},
        "another compression": b"x\0\7" + zlib.compress(whole),
        "no compression": b"x\0\0" + whole,
        "no end of its name": b"x" * 90,
        "a bomb": b"x\0\0" + zlib.compress(bytes(50 << 20)),
    }.items():
        data = png(np.asarray(image), 2, 8, chunk(b"iCCP", body))
        np.testing.assert_array_equal(seen(data), seen(image), name)
    broken = bytearray(
        png(np.asarray(image), 2, 8, chunk(b"iCCP", b"x\0\0" + zlib.compress(whole)))
    )
    broken[broken.index(b"iCCP") + 12] ^= 1
    np.testing.assert_array_equal(seen(bytes(broken)), seen(image))


def test_grey_with_a_profile() -> None:
    grey = picture(96, 80).convert("L")
    linear = profile(None, (1.0,), b"GRAY")
    wanted = np.asarray(grey) / 255
    wanted = np.where(wanted <= 0.0031308, wanted * 12.92, 1.055 * wanted ** (1 / 2.4) - 0.055)
    shown = seen((wanted * 255 + 0.5).astype(np.uint8)).astype(int)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    clear = grey.convert("LA")
    for name, data in {
        "PNG": encoded(grey, icc_profile=linear),
        "16 bits": encoded(deep, icc_profile=linear),
        "with alpha": encoded(clear, icc_profile=linear),
        "TIFF": encoded(grey, "TIFF", icc_profile=linear),
    }.items():
        assert np.abs(seen(data) - shown).max() <= 2, name


def test_cmyk_with_a_profile() -> None:
    """LittleCMS makes no profile of a press; a table of ours, of ink that darkens evenly."""
    points = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    # Lab of paper without ink, and nearly black with any: L falls with each ink.
    lightness = 100 * np.prod(1 - 0.7 * points, axis=1)
    lab = np.stack([lightness * 655.35, np.full(16, 32896.0), np.full(16, 32896.0)], -1)
    straight = struct.pack(">HH", 0, 65535)
    table = b"mft2" + bytes(4) + struct.pack(">BBBB", 4, 3, 2, 0)
    table += struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table += struct.pack(">HH", 2, 2) + straight * 4
    table += lab.round().clip(0, 65535).astype(">u2").tobytes() + straight * 3
    whole = profile(None, (1.0,), b"CMYK")
    head = whole[:12] + b"prtrCMYKLab " + whole[24:128]
    directory = struct.pack(">I", 1) + b"A2B0" + struct.pack(">II", 144, len(table))
    made = bytearray(head + directory + table)
    made[:4] = struct.pack(">I", len(made))
    made[8:12] = struct.pack(">I", 0x02400000)
    ink = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    data = encoded(ink, "TIFF", icc_profile=bytes(made))
    with_profile, without = seen(data)[5, 5], seen(encoded(ink, "TIFF"))[5, 5]
    assert np.ptp(with_profile.astype(int)) <= 6  # this ink is grey
    assert 60 < with_profile.mean() < 90  # L* of 30
    assert without.tolist() == [0, 255, 255]


def test_transparency_lies_over_white_after_the_colours_are_converted() -> None:
    image = in_space(picture(96, 80), P3).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = encoded(image, icc_profile=profile(P3))
    opaque = Image.open(io.BytesIO(encoded(image.convert("RGB"), icc_profile=profile(P3))))
    shown = ImageCms.profileToProfile(
        opaque, ImageCms.ImageCmsProfile(io.BytesIO(profile(P3))), ImageCms.createProfile("sRGB")
    )
    assert shown is not None
    shown.info.clear()
    white = Image.new("RGB", image.size, "white")
    white.paste(shown, mask=image.getchannel("A"))
    assert np.abs(seen(data).astype(int) - seen(white)).max() <= 2


def test_palettes_and_thumbnails_are_converted() -> None:
    image = in_space(picture(96, 80), P3).quantize(64)
    data = encoded(image, icc_profile=profile(P3))
    plain = encoded(image.convert("RGB"), icc_profile=profile(P3))
    np.testing.assert_array_equal(seen(data), seen(plain))
    small = np.asarray(thumbnail(data, 320)).astype(int)
    assert np.abs(small - np.asarray(image.convert("RGB"))).max() > 8


def test_many_threads_with_many_profiles() -> None:
    """One transform for a profile, used by many threads at once."""
    image = picture(200, 160)
    datas = [
        encoded(in_space(image, P3), icc_profile=profile(P3, (gamma,)))
        for gamma in np.linspace(1.5, 2.6, 6)
    ]
    alone = [seen(data) for data in datas]
    colour._transform.cache_clear()
    together = threading.Barrier(8)

    def work(_: int) -> list[NDArray[np.uint8]]:
        together.wait()
        return [seen(data) for data in datas for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(8)):
            for index, pixels in enumerate(found):
                np.testing.assert_array_equal(pixels, alone[index // 3])


def test_a_pillow_without_littlecms_reads_pictures(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    colour._can_convert.cache_clear()
    image = in_space(picture(96, 80), P3)
    try:
        found = seen(encoded(image, icc_profile=profile(P3)))
    finally:
        colour._can_convert.cache_clear()
    np.testing.assert_array_equal(found, seen(image))
    assert caplog.messages == [
        "this Pillow was built without LittleCMS: colour profiles are ignored"
    ]

"""What Python sees in pictures of all kinds: python -m tests.javascript.expected_pictures FOLDER.

Writes bundle/, the demo model at all precisions; pictures/; and expected.json, with the pixels of
each picture in base64, the vectors of all of them and of texts by precision, classifications, and
what else has the same answer in JavaScript.
"""

import base64
import dataclasses
import html.entities
import json
import shutil
import struct
import subprocess
import sys
import typing
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import bareclip
from bareclip.bundle import DEMO, Bundle, CleanUp, Whole
from bareclip.texts.clean_up import clean
from tests.javascript.expected_tokens import SIGMAS
from tests.reference.awkward import awkward_texts
from tests.runtime.files_of_pictures import chunk, encoded, exif, is_written, png, with_exif
from tests.runtime.test_colour import D50, P3, PROPHOTO, SRGB, in_space, profile
from tests.variants import TEXTS, picture

# What the demo model takes: nothing is resized, so pixels are what the decoder made.
SMALL = (64, 64)
PHOTO = {"quality": 90}


def kinds() -> dict[str, bytes]:
    """Files without a colour profile that browsers read, by name."""
    image = picture(*SMALL)
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    grey = image.convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 257 + np.arange(64, dtype=np.uint16)
    colours = np.asarray(image).astype(np.uint16) * 257
    palette = image.quantize(64)
    jpeg = encoded(image, "JPEG", **PHOTO)
    found = {f"orientation-{n}.jpg": with_exif(jpeg, exif(orientation=n)) for n in range(1, 9)} | {
        "plain.jpg": jpeg,
        "444.jpg": encoded(image, "JPEG", subsampling=0, **PHOTO),
        "422.jpg": encoded(image, "JPEG", subsampling=1, **PHOTO),
        "progressive.jpg": encoded(image, "JPEG", progressive=True, **PHOTO),
        "optimised.jpg": encoded(image, "JPEG", optimize=True, quality=50),
        "grey.jpg": encoded(grey, "JPEG", **PHOTO),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG", **PHOTO),
        "large.jpg": encoded(picture(1600, 1200), "JPEG", **PHOTO),
        "tall.jpg": encoded(picture(300, 1500), "JPEG", **PHOTO),
        "rgb.png": encoded(image),
        "rgba.png": encoded(clear),
        "grey.png": encoded(grey),
        "grey-alpha.png": encoded(clear.convert("LA")),
        "bits.png": encoded(image.convert("1")),
        "palette.png": encoded(palette),
        "palette-clear.png": encoded(palette, transparency=5),
        "palette-alpha.png": encoded(palette, transparency=bytes(range(0, 256, 4))),
        "deep-grey.png": png(deep, 0, 16),
        "deep-rgb.png": png(colours, 2, 16),
        "key.png": png(np.asarray(image) & 0xC0, 2, 8, chunk(b"tRNS", bytes(6))),
        "two-bits.png": png(np.asarray(grey) >> 6, 0, 2),
        "gamma.png": png(np.asarray(image), 2, 8, chunk(b"gAMA", (45455).to_bytes(4, "big"))),
        "wide.png": encoded(picture(640, 40)),
        "small.png": encoded(picture(9, 5)),
        "one-pixel.png": encoded(picture(70, 1)),
        "lossy.webp": encoded(image, "WEBP", **PHOTO),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "alpha.webp": encoded(clear, "WEBP", **PHOTO),
        "plain.gif": encoded(image, "GIF"),
        "clear.gif": encoded(palette, "GIF", transparency=5),
        "animated.gif": encoded(image, "GIF", save_all=True, append_images=[picture(64, 64, 1)]),
        "rgb.bmp": encoded(image, "BMP"),
        "palette.bmp": encoded(palette, "BMP"),
    }
    if is_written("AVIF"):
        found["plain.avif"] = encoded(image, "AVIF", **PHOTO)
        found["alpha.avif"] = encoded(clear, "AVIF", **PHOTO)
    return found


def with_profiles() -> dict[str, bytes]:
    """Files with a colour profile; the wide gamuts change colours, those of sRGB do not."""
    image = picture(*SMALL)
    clear = in_space(image, P3).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    grey = image.convert("L")
    rounded = (2.4, 0.948, 0.052, 0.0774, 0.0404)
    of_grey = profile(None, (1.8,), b"GRAY")
    deep = np.asarray(in_space(image, P3)).astype(np.uint16) * 257 + np.arange(64)[:, None, None]
    packed = chunk(b"iCCP", b"p\0\0" + zlib.compress(profile(P3)))
    palette = in_space(image, P3).quantize(64)
    found = {
        "p3.jpg": encoded(in_space(image, P3), "JPEG", icc_profile=profile(P3), **PHOTO),
        "p3.png": encoded(in_space(image, P3), icc_profile=profile(P3)),
        "p3.webp": encoded(in_space(image, P3), "WEBP", icc_profile=profile(P3), **PHOTO),
        "p3-alpha.png": encoded(clear, icc_profile=profile(P3)),
        "p3-palette.png": encoded(palette, icc_profile=profile(P3)),
        "p3-upright.jpg": with_exif(
            encoded(in_space(image, P3), "JPEG", icc_profile=profile(P3), **PHOTO), exif()
        ),
        "p3-alpha.webp": encoded(clear, "WEBP", lossless=True, icc_profile=profile(P3)),
        "p3-palette-alpha.png": encoded(
            palette, transparency=bytes(range(0, 256, 4)), icc_profile=profile(P3)
        ),
        "p3-deep.png": png(deep.astype(np.uint16), 2, 16, packed),
        "p3.gif": encoded(palette, "GIF", icc_profile=profile(P3)),
        "bits.png": encoded(image.convert("1"), icc_profile=of_grey),
        "grey-alpha.png": encoded(clear.convert("LA"), icc_profile=of_grey),
        "prophoto.png": encoded(in_space(image, PROPHOTO), icc_profile=profile(PROPHOTO)),
        "gamma.jpg": encoded(image, "JPEG", icc_profile=profile(SRGB, (1.8,)), **PHOTO),
        "grey.png": encoded(grey, icc_profile=of_grey),
        "grey.jpg": encoded(grey, "JPEG", icc_profile=of_grey, **PHOTO),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG", icc_profile=press(), **PHOTO),
        # In many parts, and larger than a stack.
        "p3-in-parts.jpg": encoded(
            in_space(image, P3), "JPEG", icc_profile=profile(P3) + bytes(2_000_000), **PHOTO
        ),
        "srgb.jpg": encoded(image, "JPEG", icc_profile=profile(SRGB), **PHOTO),
        "srgb-rounded.png": encoded(image, icc_profile=profile(SRGB, rounded)),
        "grey-of-p3.png": encoded(grey, icc_profile=profile(P3)),
        "broken.jpg": encoded(image, "JPEG", icc_profile=profile(P3)[:200], **PHOTO),
        "of-grey.jpg": encoded(image, "JPEG", icc_profile=profile(None, (2.2,), b"GRAY"), **PHOTO),
    }
    if is_written("AVIF"):
        found["p3.avif"] = encoded(in_space(image, P3), "AVIF", icc_profile=profile(P3), **PHOTO)
    return {f"profile-{name}": data for name, data in found.items()}


def press() -> bytes:
    """A version 2 profile of inks: a table of the colours that each of 16 mixtures has, in Lab."""
    inks = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), -1).reshape(16, 4)
    cyan, magenta, yellow, black = inks.T
    light = (1 - black) * (1 - 0.4 * cyan - 0.4 * magenta - 0.1 * yellow)
    shades = [255 * light, 128 + 50 * (magenta - cyan) * light, 128 + 60 * (yellow - cyan) * light]
    identity = struct.pack(">9i", *(np.eye(3, dtype=int) * 65536).ravel())
    straight = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * straight
    table += np.stack(shades, -1).round().astype(np.uint8).tobytes() + 3 * straight
    white = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * each) for each in D50))
    text = b"text" + bytes(4) + b"made for a test\0"
    tags = {b"A2B0": table, b"wtpt": white, b"desc": text, b"cprt": text}
    start, entries, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        entries += name + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(">I4xI", start + len(data), 0x02400000) + b"prtrCMYKLab "
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *(round(65536 * x) for x in D50))
    return head.ljust(128, b"\0") + entries + data


def rarer() -> dict[str, bytes]:
    """Files of kinds that Python reads, and not every other decoder."""
    image = picture(*SMALL)
    width, height = SMALL
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, height, width, 8, 3) + bytes(12)
    planes = np.asarray(image).transpose(2, 0, 1).tobytes()
    found = {
        "bmp": encoded(image, "BMP"),
        "ico": encoded(image, "ICO", sizes=[SMALL], bitmap_format="bmp"),
        "jp2": encoded(image, "JPEG2000"),
        "ppm": encoded(image, "PPM"),
        "psd": head + struct.pack(">H", 0) + planes,
        "tga": encoded(image, "TGA"),
        "tiff": encoded(image, "TIFF"),
        "cmyk.tiff": encoded(image.convert("CMYK"), "TIFF", icc_profile=press()),
    }
    return {f"rarer-kind.{name}": data for name, data in found.items()}


def resampled() -> list[dict[str, Any]]:
    """Noise of black and white, of many sizes, by Pillow: rows first."""
    rng = np.random.default_rng(0)
    sizes: list[list[int]] = rng.integers(1, 200, (30, 4)).tolist()
    sizes += [
        [120, 160, 48, 64],
        [61, 200, 90, 224],
        [96, 96, 32, 48],
        [9, 5, 33, 64],
        [1, 1, 4, 4],
    ]
    found = []
    for name in ("bilinear", "bicubic"):
        for height, width, high, wide in sizes:
            noise = rng.integers(0, 2, (height, width, 4)).astype(np.uint8) * 255
            image, kind = Image.fromarray(noise).convert("RGB"), Image.Resampling[name.upper()]
            image = image.resize((wide, height), kind).resize((wide, high), kind)
            data = {"given": noise.tobytes(), "wanted": image.tobytes()}
            bytes_of = {key: base64.b64encode(value).decode() for key, value in data.items()}
            found.append({"name": name, "sizes": (height, width, high, wide), **bytes_of})
    return found


def damaged() -> dict[str, bytes]:
    """Files that are no pictures, or cut short."""
    jpeg, whole = encoded(picture(*SMALL), "JPEG"), encoded(picture(*SMALL))
    return {
        "damaged-cut.jpg": jpeg[: len(jpeg) // 2],
        "damaged-cut.png": whole[: len(whole) // 2],
        "damaged-empty.jpg": b"",
        "damaged-text.png": b"not a picture",
        "damaged-picture.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    }


def main(folder: Path) -> None:
    shutil.copytree(DEMO, folder / "bundle")
    quantize = [sys.executable, "-m", "bareclip", "quantize", str(folder / "bundle"), "--force"]
    captions = folder / "captions.txt"
    captions.write_text("\n".join(sorted(path.stem for path in (DEMO / "pictures").iterdir())))
    # Calibrated: in WebAssembly products of weights alone are computed in floats.
    quantize += ["--calibrate", str(DEMO / "pictures"), "--captions", str(captions)]
    subprocess.run([*quantize, "--precision", "int8,int4,fp16"], check=True, capture_output=True)
    (folder / "pictures").mkdir()
    right, wrong = kinds() | with_profiles() | rarer(), damaged()
    for name, data in (right | wrong).items():
        (folder / "pictures" / name).write_bytes(data)
    paths = [folder / "pictures" / name for name in right]
    found: dict[str, Any] = {"damaged": [*wrong], "texts": TEXTS}
    with bareclip.load(folder / "bundle") as clip:
        shown = [pixels for pixels in clip.images.pixels(paths) if isinstance(pixels, np.ndarray)]
        found["pixels"] = {
            path.name: base64.b64encode(pixels.tobytes()).decode()
            for path, pixels in zip(paths, shown, strict=True)
        }
        classified = clip.classify(paths[8:10], ["cat", "dog", "house"], templates="five")
        mean = clip.classify(
            paths[8:10], ["cat", "dog", "house"], templates="imagenet", ensemble="probability"
        )
        for name, answers in (("classified", classified), ("averaged", mean)):
            found[name] = [{one.label: one.probability for one in each} for each in answers]
    for precision in ("fp32", "int8", "int4"):
        with bareclip.load(folder / "bundle", precision=precision) as clip:
            found[precision] = {
                "images": clip.embed_images(paths).tolist(),
                "texts": clip.embed_texts(TEXTS).tolist(),
            }
    found["fields"] = fields(Bundle)
    found["whole_fields"] = fields(Whole)
    found["may_lack"] = [
        f.name
        for f in dataclasses.fields(Bundle)
        if f.metadata.get("in_manifest", True) and f.default is not dataclasses.MISSING
    ]
    found["clean_up"] = typing.get_args(CleanUp)
    found["cleaned"] = cleaned()
    found["resampled"] = resampled()
    (folder / "expected.json").write_text(json.dumps(found))


def cleaned() -> list[tuple[str, str, str]]:
    """Steps of the clean-up, what they are given, and what they make of it."""
    spaces = "".join(chr(code) for code in (*range(33), 0x85, 0xA0, 0x2003, 0x2028, 0x3000, 0xFEFF))
    references = [
        f"a&{name}b"
        for code in (0, 1, 9, 13, 38, 127, 128, 129, 150, 159, 0xD800, 0xFDD0, 0x1F408)
        for name in (f"#{code};", f"#{code}", f"#x{code:x};", f"#X{code:X}")
    ] + [f"&{name}" for name in ("#1114112;", "#;", "#x;", "", "&", " b", "amp", "ampx;", "AMP;")]
    names = [f"&{name} &{name.rstrip(';')}x" for name in sorted(html.entities.html5)[::20]]
    odd = [*SIGMAS, *awkward_texts(200, seed=3), *TEXTS, "it's (a) {}-test_case: “x”, ok?!"]
    given: dict[CleanUp, list[str]] = {
        "unescape_html": [*references, *names, "&amp;lt;b&gt; &notit; &notin; &nosuch;"],
        "underscores_to_spaces": ["a_b__c"],
        "remove_punctuation": odd,
        "lowercase": odd,
        "collapse_whitespace": [*odd, *(f"{a}x{a}{a}y" for a in spaces)],
    }
    return [(step, text, clean(text, [step])) for step, texts in given.items() for text in texts]


def fields(kind: Any) -> Any:
    """Names of a dataclass's fields that must be there, and of those within; None for none."""
    for inner in (kind, *typing.get_args(kind)):
        if dataclasses.is_dataclass(inner):
            hints = typing.get_type_hints(inner)
            names = [
                f.name
                for f in dataclasses.fields(inner)
                if f.metadata.get("in_manifest", True) and f.default is dataclasses.MISSING
            ]
            return {name: fields(hints[name]) for name in names}
        if typing.get_origin(inner) is dict:
            return fields(typing.get_args(inner)[1])
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))

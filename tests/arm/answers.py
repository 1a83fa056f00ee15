"""What a bundle answers on this processor: run natively, and again on an emulated one.

python answers.py BUNDLE OUTPUT.npz PRECISION[,PRECISION]
"""

import io
import json
import platform
import resource
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

import bareclip
from bareclip.bundle import Bundle
from bareclip.encoders import ImageEncoder, Options, TextEncoder
from bareclip.measure.samples import TEXTS, drawn_pixels


def hostile() -> dict[str, bytes]:
    """Ten files that are no pictures."""
    rng = np.random.default_rng(5)
    image = Image.fromarray(rng.integers(0, 256, (60, 80, 3)).astype(np.uint8))
    found = {"empty": b"", "noise": rng.bytes(5000)}
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
        out = io.BytesIO()
        image.save(out, kind)
        found[f"half of a {kind}"] = out.getvalue()[: len(out.getvalue()) // 2]

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size)
    zeros = zlib.compress(bytes(1 << 20))
    found["a PNG of 3.6 gigapixels"] = head + chunk(b"IDAT", zeros) + chunk(b"IEND", b"")
    found["a PNG that ends"] = head
    found["a drawing in SVG"] = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
    assert len(found) == 10
    return found


def main(folder: Path, output: Path, precisions: list[str]) -> None:
    answers, moved = {}, {}
    for precision in precisions:
        options = Options(precision=precision, device="cpu", cache=False, any_precision=True)
        bundle = Bundle.read(folder)
        images, texts = ImageEncoder(bundle, options), TextEncoder(bundle, options)
        pixels = drawn_pixels(images.recipe.size, 8)
        answers[f"{precision} vision"] = images.embed_pixels(pixels, batch_size=8)
        answers[f"{precision} text"] = texts.embed(TEXTS)
        alone = {
            "vision": np.concatenate([images.embed_pixels(one[None]) for one in pixels]),
            "text": np.concatenate([texts.embed([one]) for one in TEXTS]),
        }
        for tower, vectors in alone.items():
            name = f"{precision} {tower}"
            moved[name] = float(np.abs(vectors - answers[name]).max())
    clip = bareclip.load(folder, cache=False)
    failed = clip.embed_images([*hostile().values()], on_error="skip")
    told = {
        "machine": platform.machine(),
        "moved": moved,
        "hostile files that are errors": len(failed.failures),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    np.savez(output, **answers)
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","))

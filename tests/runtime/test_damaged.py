"""Damaged pictures: one verdict for the same bytes, whichever way they come, and one vector."""

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

import bareclip
from tests.runtime.files_of_pictures import is_written
from tests.variants import picture

# Options by format, of all that Pillow writes and that are opened.
WRITTEN: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {}),
    ("MPO", "RGB", {"save_all": True}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "I;16", {}),
    ("PNG", "1", {}),
    ("GIF", "P", {}),
    ("GIF", "RGB", {"save_all": True}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("DIB", "RGB", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "I;16", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGBA", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "L", {"compression": "packbits"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("AVIF", "RGB", {"speed": 10}),
    ("JPEG2000", "RGB", {}),
    ("ICO", "RGBA", {}),
    ("ICO", "RGB", {"bitmap_format": "bmp"}),
    ("PPM", "RGB", {}),
    ("PPM", "I;16", {}),
    ("TGA", "RGBA", {"compression": "tga_rle"}),
    ("TGA", "L", {}),
]
DAMAGED_COPIES = 80


def files() -> list[bytes]:
    """One of each, with a picture that leaves no row empty."""
    source, found = picture(40, 28), []
    for kind, mode, options in WRITTEN:
        if not _is_written(kind, mode, options):
            continue
        image = source.convert("L").convert(mode) if mode == "I;16" else source.convert(mode)
        if "save_all" in options:
            options = options | {"append_images": [image.transpose(Image.Transpose.ROTATE_180)]}
        file = io.BytesIO()
        image.save(file, kind, **options)
        found.append(file.getvalue())
    return found


def _is_written(kind: str, mode: str, options: dict[str, Any]) -> bool:
    """Whether this Pillow writes it, and reads what is damaged of it the same way twice."""
    if not is_written(kind):
        return False
    pillow = int(PIL.__version__.partition(".")[0])
    # Before Pillow 13, what a fax lacks is what was in memory.
    return pillow >= (13 if options.get("compression") == "group4" else 11 if mode == "I;16" else 0)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A cut, a bad sector, flipped bits, blocks in each other's place, or a zeroed end."""
    changed = bytearray(data)
    size = len(data)
    at, length = rng.randrange(size), rng.randrange(1, max(2, size // 8))
    match rng.randrange(6):
        case 0:
            del changed[at:]
        case 1:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        case 2:
            for _ in range(rng.choice((1, 4, 20))):
                changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case 3:
            other = rng.randrange(size)
            block = changed[at : at + length]
            changed[other : other + len(block)] = block
        case 4:
            del changed[at : at + length]
        case _:
            changed[at:] = bytes(size - at)
    return bytes(changed)


def opened(data: bytes) -> Any:
    """An image that its user has opened and not used; the bytes where Pillow refuses to."""
    try:
        return Image.open(io.BytesIO(data))
    except Exception:
        return data


# Decoders warn of odd files; were that an error, as in other tests, they would be spared.
@pytest.mark.filterwarnings("ignore")
def test_the_same_bytes_have_one_verdict_and_one_vector(tmp_path: Path) -> None:
    rng = random.Random(14)
    whole = files()
    datas = list(
        {
            damaged(data, rng) if copy else data: None
            for data in whole
            for copy in range(DAMAGED_COPIES + 1)
        }
    )
    assert len(datas) >= 2000
    folder = tmp_path / "damaged"
    folder.mkdir()
    paths = [folder / f"{index:05}.jpg" for index in range(len(datas))]
    for path, data in zip(paths, datas, strict=True):
        path.write_bytes(data)
    ways: dict[str, Callable[[], list[Any]]] = {
        "path": lambda: list(paths),
        "bytes": lambda: list(datas),
        "file": lambda: [io.BytesIO(data) for data in datas],
        "image": lambda: [opened(data) for data in datas],
    }
    clip = bareclip.load()
    found = {name: clip.embed_images(ways[name](), on_error="skip") for name in ways}
    wanted = found["path"]
    assert 200 < len(wanted.kept) < len(datas) - 500
    for name, other in found.items():
        assert other.kept == wanted.kept, name
        np.testing.assert_array_equal(other.vectors, wanted.vectors, name)
    with bareclip.Index.open(tmp_path / "photos.db", clip, exact=True) as index:
        report = index.sync(folder)
        kept = set(wanted.kept)
        refused = {path for number, path in enumerate(paths) if number not in kept}
        assert {Path(failure.path) for failure in report.failures} == refused
        index.export_to(tmp_path / "vectors.npy")
    names = (tmp_path / "vectors.json").read_text()
    vectors = np.load(tmp_path / "vectors.npy")
    assert names.count(".jpg") == len(vectors) == len(kept)
    np.testing.assert_array_equal(vectors, wanted.vectors)

"""Hundreds of malformed files, of every format Pillow writes: all are accounted for."""

import io
import random
from pathlib import Path

import pytest
from PIL import Image

import bareclip
from bareclip.images.inputs import image_endings
from tests.variants import picture

MODES = ("RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "F", "LA", "I")
# Handlers of other programs, or written with an argument of their own.
NOT_WRITTEN = {"BUFR", "GRIB", "HDF5", "WMF"}


def encoded() -> dict[str, bytes]:
    """A file of each format in each mode it takes, by file name."""
    Image.init()
    endings: dict[str, str] = {}
    for ending, kind in Image.registered_extensions().items():
        endings.setdefault(kind, ending)
    found = {}
    source = picture(96, 64)
    for kind in sorted(set(Image.SAVE) - NOT_WRITTEN):
        for mode in MODES:
            file = io.BytesIO()
            try:
                image = (
                    source.convert("L").convert(mode)
                    if mode in ("I;16", "F")
                    else (source.convert(mode))
                )
                image.save(file, kind)
            except (OSError, ValueError, KeyError):
                continue
            found[f"{kind}-{mode.replace(';', '')}{endings.get(kind, '.bin')}"] = file.getvalue()
    return found


def damaged(data: bytes, rng: random.Random) -> dict[str, bytes]:
    flipped = {}
    for bits in (1, 4, 40):
        changed = bytearray(data)
        for _ in range(bits):
            # Headers are where it hurts: half of the flips are there.
            end = len(data) if rng.random() < 0.5 else min(len(data), 128)
            changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
        flipped[f"flipped {bits}"] = bytes(changed)
    cuts = {f"cut {part}": data[: int(len(data) * part)] for part in (0.02, 0.3, 0.9)}
    return flipped | cuts | {"tail": data + rng.randbytes(50), "head": rng.randbytes(9) + data}


# Pillow warns of odd files; were that an error, as in other tests, decoders would be spared.
@pytest.mark.filterwarnings("ignore")
def test_hundreds_of_malformed_files(clip: bareclip.Clip, tmp_path: Path) -> None:
    folder = tmp_path / "malformed"
    folder.mkdir()
    whole = encoded()
    assert len({name.partition("-")[0] for name in whole}) >= 20
    rng = random.Random(5)
    for name, data in whole.items():
        for damage, changed in damaged(data, rng).items():
            (folder / f"{damage} {name}").write_bytes(changed)
    for ending in sorted(image_endings()):
        (folder / f"noise{ending}").write_bytes(rng.randbytes(rng.randrange(1, 5000)))
        (folder / f"zeros{ending}").write_bytes(bytes(rng.randrange(1, 5000)))
    picture(60, 40).save(folder / "whole.jpg")
    files = list(folder.iterdir())
    assert len(files) > 500
    with bareclip.Index.open(tmp_path / "photos.db", clip) as index:
        report = index.sync(folder)
        status = index.status()
        assert status.photos + status.other + len(status.failures) == len(files)
        assert report.added == status.photos > 50
        assert len(status.failures) > 200
        assert all(f.reason and "\n" not in f.reason for f in status.failures)
        [hit] = index.search(clip.embed_images([folder / "whole.jpg"])[0], k=1)
        assert hit.item == str(folder / "whole.jpg")
        again = index.sync(folder)
        assert (again.added, again.unchanged, again.failures) == (0, len(files), [])

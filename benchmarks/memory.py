"""Largest memory of a process that embeds photos, or texts, or both: docs/edge.md has the table.

    python -m benchmarks.memory BUNDLE...

Each figure is of a process of its own, on the CPU without the graph cache: it loads the towers that
it needs, and embeds four photos one at a time, which two threads decode, and four texts likewise.
It is read from /proc.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from bareclip.bundle import Bundle
from bareclip.measure.samples import drawn_pixels

SMALL, LARGE = (768, 512), (4000, 3000)
COLUMNS = (
    "photos of 0.4 megapixels", "photos of 12 megapixels", "texts",
    "both, 0.4 megapixels", "both, 12 megapixels",
)  # fmt: skip

WORK = """
import json, sys
from pathlib import Path
import bareclip
given = json.loads(sys.argv[1])
towers = [name for name in ("vision", "text") if given[name]]
clip = bareclip.load(
    given["bundle"], towers=towers, precision=given["precision"], device="cpu", threads=2,
    cache=False,
)
for _ in clip.images.stream(given["vision"], batch_size=1) if given["vision"] else ():
    pass
for text in given["text"]:
    clip.embed_texts([text])
status = Path("/proc/self/status").read_text(encoding="utf-8")
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""
TEXTS = ["a photo of a cat", "two dogs at the beach", "a red car", "the sun sets over the sea"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    given = parser.parse_args()
    print(f"| model | precision | {' | '.join(COLUMNS)} |")
    print("| --- | --- |" + " --- |" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        small, large = (photos(Path(folder), size) for size in (SMALL, LARGE))
        for path in given.bundles:
            for precision in (p for p in Bundle.read(path).precisions if p != "fp16"):
                works: list[tuple[list[str], list[str]]] = [
                    (small, []), (large, []), ([], TEXTS), (small, TEXTS), (large, TEXTS),
                ]  # fmt: skip
                cells = [f"{peak(path, precision, *work) / 1e6:.0f} MB" for work in works]
                print(f"| {path.name} | {precision} | {' | '.join(cells)} |", flush=True)


def photos(folder: Path, size: tuple[int, int]) -> list[str]:
    """Four JPEGs."""
    paths = [folder / f"{size[0]}-{number}.jpg" for number in range(4)]
    for path, pixels in zip(paths, drawn_pixels(512, 4), strict=True):
        Image.fromarray(pixels).resize(size).save(path)
    return [str(path) for path in paths]


def peak(bundle: Path, precision: str, images: list[str], texts: list[str]) -> int:
    """Bytes that were resident at most."""
    given = {"bundle": str(bundle), "precision": precision, "vision": images, "text": texts}
    command = [sys.executable, "-c", WORK, json.dumps(given)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    main()

"""How much memory streams of pictures and texts take, and how soon their first vector comes.

    python -m benchmarks.streaming --bundle clip-b32 --images 20000 --texts 200000

Pictures are small JPEGs made as they are asked for. Memory is the process's largest, so that what
a stream took and gave back counts too.
"""

import argparse
import io
import json
import resource
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

import bareclip

WARM_UP = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", help="a folder; the demo model where none is given")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--texts", type=int, default=200_000)
    arguments = parser.parse_args()
    clip = bareclip.load(arguments.bundle)
    report = {
        "images": measured(clip.images.stream, jpegs(arguments.images)),
        "texts": measured(clip.texts.stream, sentences(arguments.texts)),
    }
    print(json.dumps(report, indent=2))


def measured(stream: Any, items: Iterable[Any]) -> dict[str, float]:
    """Runs a stream to its end.

    Returns:
        ``count`` vectors; ``taken`` items when the first came; ``grown_mb`` of memory after the
        first thousand; ``per_second``.
    """
    taken = before = count = first = 0

    def counted() -> Iterator[Any]:
        nonlocal taken
        for item in items:
            taken += 1
            yield item

    started = time.perf_counter()
    for count, _ in enumerate(stream(counted()), start=1):
        if count == 1:
            first = taken
        if count == WARM_UP:
            before = peak()
    rate = count / (time.perf_counter() - started)
    grown = (peak() - before) / 1024
    return {"count": count, "taken": first, "grown_mb": grown, "per_second": rate}


def peak() -> int:
    """KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def jpegs(count: int) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 72)).save(file, "JPEG")
        yield file.getvalue()


def sentences(count: int) -> Iterator[str]:
    return (f"a photo of {number} dogs and {number % 7} cats" for number in range(count))


if __name__ == "__main__":
    main()

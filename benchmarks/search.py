"""What the photo index promises, measured: decoding, indexing, searching, approximately too.

    python -m benchmarks.search --bundle clip-b32            # a million vectors; half an hour
    python -m benchmarks.search --bundle clip-b32 --quick    # small sizes, in seconds

Photos are those of ``BARECLIP_DATA``, or drawn ones without it. Vectors to search are made up,
in clusters as photos' are. ``--only`` runs one part.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip.measure.samples import drawn_pixels
from bareclip.scoring.vectors import normalize

Vectors = NDArray[np.float32]

# Run in a new process: opens the index, asks once, then several times more.
_ASK = r"""
import json, re, sys, time
from pathlib import Path
started = time.perf_counter()
import numpy as np
import bareclip
index = bareclip.Index.open(sys.argv[1])
queries = np.load(sys.argv[2])
approximate = sys.argv[3] == "approximate"
index.search(queries[0], k=10, approximate=approximate)
first = time.perf_counter() - started
times, found = [], []
for query in queries:
    at = time.perf_counter()
    hits = index.search(query, k=10, approximate=approximate)
    times.append(time.perf_counter() - at)
    found.append([int(hit.item) for hit in hits])
# Not getrusage, whose peak begins with that of the process that started this one.
peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"first": first, "times": times, "peak": peak, "found": found}))
"""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    photos: int
    megapixels: float
    indexed: int
    vectors: int
    queries: int


FULL = Sizes(photos=85, megapixels=12, indexed=400, vectors=1_000_000, queries=50)
QUICK = Sizes(photos=3, megapixels=2, indexed=32, vectors=2000, queries=5)


def scaled_decoding(clip: bareclip.Clip, photos: list[Image.Image], megapixels: float) -> Any:
    """Large JPEGs decoded small, against the exact path: vectors, pixels, time."""
    cosines, differences, largest, times = [], [], [], {"exact": 0.0, "scaled": 0.0}
    for photo in photos:
        data = _enlarged(photo, megapixels)
        found = {}
        for way in ("scaled", "exact"):
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                found[way] = read_pixels(
                    data, clip.bundle.image_recipe(), clip.reading, scaled=way == "scaled"
                )
                seconds.append(time.perf_counter() - started)
            times[way] += min(seconds)
        vectors = clip.images.embed_pixels(np.stack([found["exact"], found["scaled"]]))
        cosines.append(float(clip.similarity(vectors[:1], vectors[1:])[0, 0]))
        difference = np.abs(found["exact"].astype(int) - found["scaled"])
        differences.append(float(difference.mean()))
        largest.append(int(difference.max()))
    return {
        "photos": len(photos),
        "megapixels": megapixels,
        "min_cosine": min(cosines),
        "mean_cosine": statistics.mean(cosines),
        "mean_pixel_difference": statistics.mean(differences),
        "largest_pixel_difference": max(largest),
        "exact_ms": times["exact"] / len(photos) * 1000,
        "scaled_ms": times["scaled"] / len(photos) * 1000,
        "gain": times["exact"] / times["scaled"],
    }


def indexing(clip: bareclip.Clip, photos: list[Image.Image], count: int, folder: Path) -> Any:
    """Images a second of the encoder alone, and of indexing 600x480 JPEGs, in turns."""
    (folder / "photos").mkdir()
    for i in range(count):
        photo = photos[i % len(photos)].convert("RGB").resize((600, 480))
        # No two alike: the index would embed only one of them.
        photo.putpixel((0, 0), (i % 256, i // 256, 0))
        photo.save(folder / "photos" / f"{i:05}.jpg", quality=90)
    size = clip.bundle.image.size
    batch = np.stack([np.asarray(p.convert("RGB").resize((size, size))) for p in photos[:1] * 8])
    clip.images.embed_pixels(batch)
    alone, indexed = [], []
    for turn in range(3):
        started = time.perf_counter()
        for _ in range(count // 8):
            clip.images.embed_pixels(batch)
        alone.append(count // 8 * 8 / (time.perf_counter() - started))
        with bareclip.Index.open(folder / f"photos-{turn}.db", clip) as index:
            started = time.perf_counter()
            assert index.sync(folder / "photos").added == count
            indexed.append(count / (time.perf_counter() - started))
    return {
        "photos": count,
        "encoder_per_second": statistics.median(alone),
        "index_per_second": statistics.median(indexed),
        "share": statistics.median(indexed) / statistics.median(alone),
    }


def clustered(count: int, width: int, seed: int) -> Vectors:
    """Unit rows around a thousand directions, about 0.9 from each row to its own."""
    centres = np.random.default_rng(0).standard_normal((1000, width), np.float32)
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, len(centres), count)]
    rows += 0.5 * rng.standard_normal(rows.shape, np.float32)
    return normalize(rows).astype(np.float32)


def searching(clip: bareclip.Clip, sizes: Sizes, folder: Path) -> Any:
    """Exact and approximate search of made-up vectors, each in a process of its own."""
    width, path = clip.bundle.embedding_dim, folder / "vectors.db"
    step = 20_000
    started = time.perf_counter()
    with bareclip.Index.open(path, clip) as index:
        for first in range(0, sizes.vectors, step):
            count = min(step, sizes.vectors - first)
            names = [str(i) for i in range(first, first + count)]
            index.add(names, clustered(count, width, seed=1 + first))
        filled = time.perf_counter() - started
        queries = clustered(sizes.queries, width, seed=10**9)
        np.save(folder / "queries.npy", queries)
        started = time.perf_counter()
        index.search(queries[0])
        derived = time.perf_counter() - started
    exact = _ask(path, folder / "queries.npy", "exact")
    vectors = sizes.vectors * width * 4
    checked = queries[: min(5, len(queries))]
    wanted = _full_sort(sizes.vectors, step, checked)
    started = time.perf_counter()
    built = _ask(path, folder / "queries.npy", "approximate")
    graph = time.perf_counter() - started
    near = _ask(path, folder / "queries.npy", "approximate")
    shared = [
        len(set(a) & set(b)) / len(b) for a, b in zip(near["found"], exact["found"], strict=True)
    ]
    assert built["found"] == near["found"]
    return {
        "vectors": sizes.vectors,
        "width": width,
        "add_seconds": filled,
        "make_matrix_seconds": derived,
        "first_query_of_a_process_seconds": exact["first"],
        "first_text_query_of_the_command_seconds": _command_seconds(path),
        "exact": _spread(exact["times"]),
        "peak_mb": exact["peak"] / 1e6,
        "vectors_mb": vectors / 1e6,
        "peak_beyond_vectors_mb": (exact["peak"] - vectors) / 1e6,
        "equal_to_float64_full_sort": exact["found"][: len(checked)] == wanted,
        "graph_build_seconds": graph,
        "graph_first_query_seconds": near["first"],
        "approximate": _spread(near["times"]),
        "recall_at_10": statistics.mean(shared),
    }


def _full_sort(count: int, step: int, queries: Vectors) -> list[list[int]]:
    scores = np.empty((len(queries), count))
    for first in range(0, count, step):
        rows = clustered(min(step, count - first), queries.shape[1], seed=1 + first)
        for i, query in enumerate(normalize(queries)):
            products = rows.astype(np.float64) * query
            scores[i, first : first + len(rows)] = products.sum(axis=1)
    return [np.argsort(-row, kind="stable")[:10].tolist() for row in scores]


def _ask(path: Path, queries: Path, way: str) -> dict[str, Any]:
    command = [sys.executable, "-c", _ASK, str(path), str(queries), way]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found: dict[str, Any] = json.loads(answer)
    return found


def _command_seconds(path: Path) -> float:
    command = [sys.executable, "-m", "bareclip", "search", str(path), "a dog on the beach"]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": statistics.median(ordered) * 1000,
        "p95_ms": ordered[int(0.95 * (len(ordered) - 1))] * 1000,
    }


def _enlarged(photo: Image.Image, megapixels: float) -> bytes:
    factor = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
    size = round(photo.width * factor), round(photo.height * factor)
    file = io.BytesIO()
    photo.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def _photos(count: int) -> list[Image.Image]:
    folder = Path(os.environ.get("BARECLIP_DATA", ".")) / "photos" / "images"
    paths = sorted(folder.glob("*.jpg"))[:count]
    return [Image.open(path) for path in paths] or [
        Image.fromarray(pixels) for pixels in drawn_pixels(480, count)
    ]


def measure(clip: bareclip.Clip, sizes: Sizes, only: str | None, folder: Path) -> dict[str, Any]:
    """All parts, or one; ``folder`` is empty and holds a few gigabytes meanwhile."""
    photos = _photos(sizes.photos)
    parts: dict[str, Callable[[], Any]] = {
        "decoding": lambda: scaled_decoding(clip, photos, sizes.megapixels),
        "decoding_demo": lambda: scaled_decoding(bareclip.load(), photos, sizes.megapixels),
        "indexing": lambda: indexing(clip, photos, sizes.indexed, folder),
        "search": lambda: searching(clip, sizes, folder),
    }
    return {name: part() for name, part in parts.items() if only in (None, name)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--vectors", type=int, help="how many to search")
    parser.add_argument("--only", choices=["decoding", "decoding_demo", "indexing", "search"])
    parser.add_argument("--folder", type=Path, help="where to work; needs 10 GB")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    if arguments.vectors:
        sizes = Sizes(**{**vars(sizes), "vectors": arguments.vectors})
    clip = bareclip.load(arguments.bundle)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = measure(clip, sizes, arguments.only, Path(folder))
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for part, figures in found.items():
        print(f"{part} ({clip.bundle.name}, {clip.threads} threads)")
        for name, figure in figures.items():
            print(f"  {name.replace('_', ' '):42} {_shown(figure)}")


def _shown(figure: Any) -> str:
    if isinstance(figure, dict):
        return ", ".join(f"{name} {_shown(value)}" for name, value in figure.items())
    return f"{figure:.5g}" if isinstance(figure, float) else str(figure)


if __name__ == "__main__":
    main()

"""How near another precision comes to fp32, on the same images and texts.

The exporter measures with this when it makes a precision, and ``bareclip verify`` on a
user's own photos.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bundle import TOKENIZER, Bundle, Fidelity, TowerFidelity
from .cuda import load_tower
from .errors import DeviceError, ImageError
from .preprocess import pixels_ahead
from .samples import TEXTS, drawn_pixels
from .session import Device
from .threads import Threads, default_threads
from .tokenizer import Tokenizer

Vectors = NDArray[np.float32]
Run = Callable[[NDArray[Any]], Vectors]
# Rows of a corpus, and what a tower takes for them.
Batch = tuple[Any, NDArray[Any]]
# (a count) -> a batch of that many, and the row of the same input in each.
Among = Callable[[int], tuple[NDArray[Any], int]]

BASE = "fp32"
IMAGE_BATCH, TEXT_BATCH = 8, 32
# Batches that one input is embedded in, beside alone.
_BATCHES = (2, 7, 32)
_DRAWN = 24
_TIMED_ROUNDS = 5


@dataclass(frozen=True)
class Floor:
    """What a precision must reach to be kept: least mean and least single cosine to fp32."""

    mean_cosine: float
    min_cosine: float


FLOORS = {
    "fp16": Floor(0.9999, 0.999),
    "int8": Floor(0.99, 0.95),
    "int4": Floor(0.97, 0.90),
}
LARGEST_BATCH_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class Corpus:
    """What precisions are judged on.

    Attributes:
        name: What reports call it.
        pixels: (N, size, size, 3) uint8; none for a text tower alone.
        texts: M strings.
        owners: (M,) the row of the image that a text describes, -1 where there is none.
    """

    name: str
    pixels: NDArray[np.uint8]
    texts: list[str]
    owners: NDArray[np.int64]


def make_corpus(
    bundle: Bundle, pairs: Sequence[tuple[Path, Sequence[str]]], texts: Sequence[str] = ()
) -> Corpus:
    """Reads photos with the captions they have, if any, and more texts.

    Args:
        bundle: Says how photos are read, which is as seen.
        pairs: Photos, each with its captions; none are replaced by drawn pictures. A photo
            that cannot be read is left out.
        texts: Of no photo. Without any text at all, built-in ones take their place.

    Raises:
        ImageError: None of the photos can be read.
    """
    captions, pixels, what = _pictures(bundle, pairs)
    owned = [(text, row) for row, several in enumerate(captions) for text in several]
    owned += [(text, -1) for text in texts]
    name = f"{what}{len(owned) or len(TEXTS)} {'' if owned else 'built-in '}texts"
    owned = owned or [(text, -1) for text in TEXTS]
    return Corpus(name, pixels, [t for t, _ in owned], np.array([row for _, row in owned]))


def _pictures(
    bundle: Bundle, pairs: Sequence[tuple[Path, Sequence[str]]]
) -> tuple[list[list[str]], NDArray[np.uint8], str]:
    """The captions of each photo that can be read, the pixels, and what reports say of them."""
    captions = [list(several) for _, several in pairs]
    if bundle.image is None:
        return captions, np.empty((0, 0, 0, 3), np.uint8), ""
    read = pixels_ahead(
        [path for path, _ in pairs], bundle.image, "as_seen", default_threads(), 2 * IMAGE_BATCH
    )
    kept, rows, error = [], [], None
    for several, (_, decoded) in zip(captions, read, strict=True):
        if isinstance(decoded, ImageError):
            error = decoded
        else:
            kept.append(several)
            rows.append(decoded)
    if error is not None and not rows:
        raise error
    pixels = np.stack(rows) if rows else drawn_pixels(bundle.image.size, _DRAWN)
    return kept, pixels, f"{len(rows)} photos and " if rows else f"{_DRAWN} drawn pictures and "


def compare(bundle: Bundle, precision: str, corpus: Corpus, forced: bool = False) -> Fidelity:
    """Measures a precision against fp32 on the CPU; fp16 on CUDA where there is one.

    Args:
        bundle: Has both.
        precision: Such as ``"int8"``.
        corpus: What to embed.
        forced: To be handed on.

    Raises:
        BundleError: The bundle lacks one of them, or ONNX Runtime cannot load it.
    """
    cpu = Device("cpu", required=True)
    device = Device.parse("auto") if precision == "fp16" else cpu
    try:
        return _compare(bundle, precision, corpus, forced, device)
    except DeviceError as error:
        if not device.on_cuda:
            raise
        warnings.warn(f"{error}: fp16 is measured on the CPU", RuntimeWarning, stacklevel=2)
        return _compare(bundle, precision, corpus, forced, cpu)


def _compare(
    bundle: Bundle, precision: str, corpus: Corpus, forced: bool, device: Device
) -> Fidelity:
    timed = precision != "fp16" or device.on_cuda
    towers, answers = {}, {}
    for name in bundle.towers:
        batches, among = (_images if name == "vision" else _texts)(bundle, corpus)
        base, tried = (_load(bundle, p, name, device) for p in (BASE, precision))
        pair = [_embed(run, batches, bundle.embedding_dim) for run in (base, tried)]
        cosines = (pair[0].astype(np.float64) * pair[1]).sum(axis=1)
        towers[name] = TowerFidelity(
            inputs=len(cosines),
            mean_cosine=float(cosines.mean()),
            p1_cosine=float(np.quantile(cosines, 0.01)),
            min_cosine=float(cosines.min()),
            batch_difference=_batch_difference(tried, among),
            speed_ratio=_speed_ratio(base, tried, batches[0][1]) if timed else None,
        )
        answers[name] = pair
    agreement = change = None
    if len(answers) == 2:
        scores = [answers["vision"][i] @ answers["text"][i].T for i in range(2)]
        nearest = [s.argmax(axis=1) for s in scores]
        agreement = float((nearest[0] == nearest[1]).mean())
        before, after = (_recall1(s, corpus.owners) for s in scores)
        change = None if before is None or after is None else 100 * (after - before)
    return Fidelity(corpus.name, towers, agreement, change, forced)


def _images(bundle: Bundle, corpus: Corpus) -> tuple[list[Batch], Among]:
    """The vision tower's input in batches, and batches that one image is among."""
    rows = np.arange(len(corpus.pixels))

    def among(count: int) -> tuple[NDArray[Any], int]:
        black, white = np.zeros_like(corpus.pixels[0]), np.full_like(corpus.pixels[0], 255)
        return np.stack([corpus.pixels[0], *islice(cycle([white, black]), count - 1)]), 0

    parts = np.split(rows, rows[IMAGE_BATCH::IMAGE_BATCH])
    return [(part, corpus.pixels[part]) for part in parts], among


def _texts(bundle: Bundle, corpus: Corpus) -> tuple[list[Batch], Among]:
    """The text tower's input in batches, and batches that one text is among."""
    tokenizer = Tokenizer.load(bundle.folder / TOKENIZER, bundle.text_recipe())
    ids = tokenizer.encode(corpus.texts, truncate=True)

    def among(count: int) -> tuple[NDArray[Any], int]:
        [first, *others] = tokenizer.encode(TEXTS, truncate=True)
        alike = [tokens for tokens in others if len(tokens) == len(first)] or [first]
        [(places, batch)] = tokenizer.batches([first, *islice(cycle(alike), count - 1)], count)
        return batch, places.index(0)

    return [*tokenizer.batches(ids, TEXT_BATCH)], among


def shortfalls(precision: str, fidelity: Fidelity) -> list[str]:
    """What of a report is under the floor; empty where nothing is."""
    floor = FLOORS[precision]
    found = []
    for name, tower in fidelity.towers.items():
        for what, value, least in (
            ("mean cosine", tower.mean_cosine, floor.mean_cosine),
            ("least cosine", tower.min_cosine, floor.min_cosine),
        ):
            if not value >= least:  # NaN falls short too
                found.append(f"{name} {what} {value:.4f} is under {least}")
        # On CUDA the kernel, and so the last bit of fp16, depends on the batch.
        if precision != "fp16" and not tower.batch_difference <= LARGEST_BATCH_DIFFERENCE:
            found.append(
                f"{name} vectors depend on their batch by {tower.batch_difference:.1e}, over "
                f"{LARGEST_BATCH_DIFFERENCE:.0e}"
            )
    return found


def _load(bundle: Bundle, precision: str, tower: str, device: Device) -> Run:
    graph = bundle.folder / bundle.tower(precision, tower).graph
    return load_tower(graph, device, Threads()).run


def _embed(run: Run, batches: Sequence[Batch], width: int) -> Vectors:
    """(N, width) vectors of batches that come with their rows."""
    vectors = np.empty((sum(len(rows) for rows, _ in batches), width), np.float32)
    for rows, batch in batches:
        vectors[rows] = run(batch)
    return vectors


def _batch_difference(run: Run, among: Among) -> float:
    """Largest change of a vector among unlike others.

    Args:
        run: (a batch) -> vectors.
        among: Batches that an input is among.
    """

    def vector(count: int) -> Vectors:
        batch, row = among(count)
        return run(batch)[row]

    alone = vector(1)
    return max(float(np.abs(vector(count) - alone).max()) for count in _BATCHES)


def _speed_ratio(base: Run, tried: Run, batch: NDArray[Any]) -> float:
    """Median of the base's time over the other's, in turn, so that a neighbour hits both."""
    ratios = []
    for _ in range(_TIMED_ROUNDS):
        started = time.perf_counter()
        base(batch)
        between = time.perf_counter()
        tried(batch)
        ratios.append((between - started) / (time.perf_counter() - between))
    return median(ratios)


def _recall1(scores: Vectors, owners: NDArray[np.int64]) -> float | None:
    """Mean recall@1 of both directions; None where no image has a text.

    Args:
        scores: (N, M) of images and texts.
        owners: (M,) as in ``Corpus``.
    """
    described = np.unique(owners[owners >= 0])
    if not len(described):
        return None
    to_text = owners[scores[described].argmax(axis=1)] == described
    to_image = scores[:, owners >= 0].argmax(axis=0) == owners[owners >= 0]
    return float((to_text.mean() + to_image.mean()) / 2)

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

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle, Fidelity, TowerFidelity
from ..encoders import IMAGE_BATCH, ImageEncoder, Options, TextEncoder
from ..errors import DeviceError, ImageError
from ..inference.device import Device, stored
from ..types import Failure, Vectors
from .samples import TEXTS, drawn_pixels

BASE = "fp32"
# Texts that are timed together.
_TIMED_TEXTS = 32
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
    "fp32": Floor(0.99999, 0.9999),  # on OpenVINO, against ONNX Runtime
    "bf16": Floor(0.999, 0.995),
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
    encoder = ImageEncoder(bundle, Options(any_precision=True))
    kept, rows, failure = [], [], None
    for several, shown in zip(captions, encoder.pixels(p for p, _ in pairs), strict=True):
        if isinstance(shown, Failure):
            failure = shown
        else:
            kept.append(several)
            rows.append(shown)
    if failure is not None and not rows:
        raise ImageError(failure.reason)
    pixels = np.stack(rows) if rows else drawn_pixels(bundle.image.size, _DRAWN)
    return kept, pixels, f"{len(rows)} photos and " if rows else f"{_DRAWN} drawn pictures and "


def compare(
    bundle: Bundle,
    precision: str,
    corpus: Corpus,
    forced: bool = False,
    device: str | None = None,
) -> Fidelity:
    """Measures a precision against fp32 on the CPU; fp16 on CUDA where there is one.

    Args:
        bundle: Has both.
        precision: Such as ``"int8"``.
        corpus: What to embed.
        forced: To be handed on.
        device: ``"openvino"`` measures it there, against fp32 on ONNX Runtime's CPU.

    Raises:
        BundleError: The bundle lacks one of them, or it cannot be loaded.
        DeviceError: OpenVINO cannot be had.
    """
    if device is not None:
        return _compare(bundle, precision, corpus, forced, device, base="cpu")
    device = "cpu" if precision != "fp16" else Device.parse("auto").name
    try:
        return _compare(bundle, precision, corpus, forced, device, base=device)
    except DeviceError as error:
        if device == "cpu":
            raise
        warnings.warn(f"{error}: fp16 is measured on the CPU", RuntimeWarning, stacklevel=2)
        return _compare(bundle, precision, corpus, forced, "cpu", base="cpu")


def _compare(
    bundle: Bundle, precision: str, corpus: Corpus, forced: bool, device: str, base: str
) -> Fidelity:
    timed = precision != "fp16" or device != "cpu"
    towers, answers = {}, {}
    for name in bundle.towers:
        if name not in bundle.precisions.get(stored(precision), {}):
            continue
        right = _Tower.of(bundle, corpus, name, BASE, base)
        tried = _Tower.of(bundle, corpus, name, precision, device)
        pair = right.vectors(), tried.vectors()
        cosines = (pair[0].astype(np.float64) * pair[1]).sum(axis=1)
        towers[name] = TowerFidelity(
            inputs=len(cosines),
            mean_cosine=float(cosines.mean()),
            p1_cosine=float(np.quantile(cosines, 0.01)),
            min_cosine=float(cosines.min()),
            batch_difference=_batch_difference(tried),
            speed_ratio=_speed_ratio(right.once, tried.once) if timed else None,
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


@dataclass(frozen=True)
class _Tower:
    """A tower at some precision, and what it is asked.

    Attributes:
        vectors: () -> (N, D) of the whole corpus.
        among: (a count) -> (D,) of one input among that many unlike others.
        once: Runs a batch of the corpus, to be timed.
    """

    vectors: Callable[[], Vectors]
    among: Callable[[int], Vectors]
    once: Callable[[], object]

    @classmethod
    def of(cls, bundle: Bundle, corpus: Corpus, name: str, precision: str, device: str) -> "_Tower":
        # Not from the graph cache: what is being made may yet be refused.
        precisions = {name: precision}
        options = Options(precision=precisions, device=device, cache=False, any_precision=True)
        if name == "vision":
            return cls._of_images(ImageEncoder(bundle, options), corpus)
        return cls._of_texts(TextEncoder(bundle, options), corpus)

    @classmethod
    def _of_images(cls, encoder: ImageEncoder, corpus: Corpus) -> "_Tower":
        first, pixels = corpus.pixels[0], corpus.pixels
        others = [np.full_like(first, 255), np.zeros_like(first)]

        def among(count: int) -> Vectors:
            batch = np.stack([first, *islice(cycle(others), count - 1)])
            return encoder.embed_pixels(batch, batch_size=count)[0]

        return cls(
            lambda: encoder.embed_pixels(pixels),
            among,
            lambda: encoder.embed_pixels(pixels[:IMAGE_BATCH]),
        )

    @classmethod
    def _of_texts(cls, encoder: TextEncoder, corpus: Corpus) -> "_Tower":
        ids = encoder.tokenizer.encode(TEXTS, truncate=True)
        alike = [text for text, own in zip(TEXTS, ids, strict=True) if len(own) == len(ids[0])]
        [first, *others] = alike if len(alike) > 1 else [*alike, *alike]
        # Not a batch of tokens: texts are cut into others where each has the same width.
        timed = corpus.texts[:_TIMED_TEXTS]

        def among(count: int) -> Vectors:
            texts = [first, *islice(cycle(others), count - 1)]
            return encoder.embed(texts, batch_size=count)[0]

        return cls(lambda: encoder.embed(corpus.texts), among, lambda: encoder.embed(timed))


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


def _batch_difference(tower: _Tower) -> float:
    """Largest change of a vector among unlike others."""
    alone = tower.among(1)
    return max(float(np.abs(tower.among(count) - alone).max()) for count in _BATCHES)


def _speed_ratio(base: Callable[[], object], tried: Callable[[], object]) -> float:
    """Median of the base's time over the other's, in turn, so that a neighbour hits both."""
    ratios = []
    for _ in range(_TIMED_ROUNDS):
        started = time.perf_counter()
        base()
        between = time.perf_counter()
        tried()
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

"""How well a model answers on a user's own data: zero-shot accuracy and retrieval recall.

The measures are those of Radford et al. 2021 (CLIP): top-1 and top-5 of zero-shot
classification (section 3.1), and recall@k of retrieval in both directions (appendix E.1).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..clip import Clip
from ..errors import BareclipError
from ..images.classes import list_classes
from ..images.folders import EXCLUDED
from ..scoring.vectors import ranks
from ..scoring.zero_shot import Ensemble, Templates
from ..types import Failure, PartialEmbeddings
from .captions import read_pairs

Progress = Callable[[Sequence[Path]], Iterable[Path]]

RECALL_AT = (1, 5, 10)
# Rows of similarities held at a time: 1,000 against a million are 4 GB already.
_ROWS = 512


@dataclass(frozen=True)
class Setting:
    """One way to ask: templates as ``Clip.classifier`` takes them, and their name."""

    name: str
    templates: Templates
    ensemble: Ensemble


@dataclass(frozen=True)
class ZeroShotResult:
    """Accuracy of one setting, from 0 to 1."""

    setting: Setting
    top1: float
    top5: float


@dataclass(frozen=True)
class ZeroShotReport:
    """A tree of images, one folder per class, classified in several settings.

    Attributes:
        left_out: How many images and folders were left out by name.
    """

    images: int
    classes: int
    results: list[ZeroShotResult]
    failures: list[Failure]
    left_out: int


@dataclass(frozen=True)
class RetrievalReport:
    """Recall@k, from 0 to 1, by k.

    Attributes:
        image_to_text: Share of images with one of their captions among the k nearest.
        text_to_image: Share of captions with their image among the k nearest.
    """

    images: int
    captions: int
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]
    failures: list[Failure]


def zero_shot(
    clip: Clip,
    folder: Path,
    settings: Sequence[Setting],
    progress: Progress = list,
    exclude: tuple[str, ...] = EXCLUDED,
) -> ZeroShotReport:
    """Classifies a tree of images among the names of its folders.

    Args:
        clip: The model.
        folder: Holds one folder per class; ``_`` in their names reads as a space. A folder
            without images is a class too.
        settings: Images are embedded once for all of them.
        progress: Wraps the paths while they are embedded.
        exclude: Patterns of names, or of paths within ``folder``, of what is left out, classes
            too; without it, what is hidden and ``@eaDir``.

    Returns:
        One result per setting. Images that cannot be read are left out and listed.

    Raises:
        BareclipError: Fewer than two folders with images, or no readable image.
    """
    found = list_classes(folder, exclude)
    labels = found.labels
    # Before the images, so that labels that cannot be used cost nothing.
    classifiers = [
        clip.classifier(labels, templates=s.templates, ensemble=s.ensemble) for s in settings
    ]
    embedded = clip.embed_images(progress(found.paths), on_error="skip")
    _check_some(embedded)
    true = np.array([found.places[i] for i in embedded.kept], np.int64)
    results = []
    for setting, classifier in zip(settings, classifiers, strict=True):
        place = ranks(classifier.probabilities(embedded.vectors), true)
        results.append(
            ZeroShotResult(setting, float((place < 1).mean()), float((place < 5).mean()))
        )
    return ZeroShotReport(len(true), len(labels), results, embedded.failures, found.left_out)


def retrieval(clip: Clip, pairs: Path, progress: Progress = list) -> RetrievalReport:
    """Finds captions by their images and images by their captions.

    Args:
        clip: The model.
        pairs: A JSON Lines file, each line ``{"image": path, "captions": [text, ...]}``;
            a path is relative to the file.
        progress: Wraps the paths while they are embedded.

    Returns:
        Recall in both directions. Images that cannot be read are left out, with their
        captions, and listed.

    Raises:
        BareclipError: The file cannot be read, a line is not of that form, or no image
            can be read.
    """
    read = read_pairs(pairs)
    embedded = clip.embed_images(progress([path for path, _ in read]), on_error="skip")
    _check_some(embedded)
    captions = [read[i][1] for i in embedded.kept]
    owners = np.array([row for row, texts in enumerate(captions) for _ in texts], np.int64)
    texts = clip.embed_texts([text for several in captions for text in several])
    by_text, by_image = [], []
    for start in range(0, len(texts), _ROWS):
        scores = texts[start : start + _ROWS] @ embedded.vectors.T
        by_text.append(ranks(scores, owners[start : start + _ROWS]))
    for row, vector in enumerate(embedded.vectors):
        scores = np.broadcast_to(texts @ vector, (len(captions[row]), len(texts)))
        by_image.append(ranks(scores, np.flatnonzero(owners == row)).min())
    return RetrievalReport(
        images=len(captions),
        captions=len(texts),
        image_to_text=_recall(by_image),
        text_to_image=_recall(np.concatenate(by_text)),
        failures=embedded.failures,
    )


def _check_some(embedded: PartialEmbeddings) -> None:
    if not embedded.kept:
        first = embedded.failures[0]
        raise BareclipError(
            f"none of the {len(embedded.failures)} images can be read; the first: {first.reason}"
        )


def _recall(places: ArrayLike) -> dict[int, float]:
    return {k: float((np.asarray(places) < k).mean()) for k in RECALL_AT}

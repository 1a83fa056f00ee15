"""Zero-shot classification: label matrices from labels and prompt templates.

Works on arrays and an ``embed_texts`` callable; it knows of no model and no file.
Follows Radford et al. 2021 (CLIP), section 3.1.4 on prompt ensembling.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .bundle import Scoring
from .errors import TextError
from .similarity import normalize, sigmoid, softmax
from .templates import resolve

Ensemble = Literal["embedding", "probability"]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Prediction:
    """A label and how probable the model finds it, from 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True)
class LabelMatrix:
    """The texts of a classifier, embedded once.

    Attributes:
        labels: L labels.
        vectors: (T, L, D) float32, unit rows. T is 1 for the embedding ensemble, else
            the number of templates.
    """

    labels: tuple[str, ...]
    vectors: NDArray[np.float32]

    def probabilities(self, images: NDArray[np.float32], scoring: Scoring) -> Floats:
        """How probable each label is for each image.

        Args:
            images: (N, D) unit rows.
            scoring: The bundle's. Its ``"softmax"`` compares the labels with each other,
                its ``"sigmoid"`` judges each alone (SigLIP).

        Returns:
            (N, L), the mean over templates.
        """
        score = softmax if scoring.function == "softmax" else sigmoid
        factor = np.exp(scoring.logit_scale)
        total: Floats = np.zeros((len(images), len(self.labels)))
        # One template at a time: all at once would be as many times the memory.
        for prompts in self.vectors:
            total += score(factor * (images @ prompts.T) + scoring.logit_bias)
        return total / len(self.vectors)


def label_matrix(
    labels: Sequence[str],
    templates: str | Sequence[str],
    ensemble: Ensemble,
    embed_texts: Callable[[Sequence[str]], NDArray[np.float32]],
) -> LabelMatrix:
    """Puts every label into every template and embeds the prompts.

    Args:
        labels: L distinct labels.
        templates: A set's name, a template, or several; see ``templates.resolve``.
        ensemble: ``"embedding"`` averages a label's unit vectors over the templates
            and normalises the mean, as OpenAI does; ``"probability"`` keeps a matrix a
            template, whose probabilities are averaged.
        embed_texts: (strings) -> (len, D) float32, unit rows.

    Returns:
        The matrix, ready to score images.

    Raises:
        TextError: No labels, a repeated or empty one, an unknown ensemble or template.
    """
    _check_labels(labels)
    if ensemble not in get_args(Ensemble):
        raise TextError(f"ensemble {ensemble!r} is unknown; it is 'embedding' or 'probability'")
    prompts = [t.replace("{}", label) for t in resolve(templates) for label in labels]
    flat = embed_texts(prompts)
    vectors = flat.reshape(-1, len(labels), flat.shape[1])
    if ensemble == "embedding":
        vectors = normalize(vectors.mean(axis=0, keepdims=True)).astype(np.float32)
    return LabelMatrix(tuple(labels), vectors)


def ranked(labels: Sequence[str], probabilities: Floats, top: int | None) -> list[Prediction]:
    """The ``top`` labels of one image, most probable first; all when ``top`` is None.

    Raises:
        TextError: ``top`` is under 1.
    """
    if top is not None and top < 1:
        raise TextError(f"top is {top}; it must be at least 1, or None for all labels")
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [Prediction(labels[i], float(probabilities[i])) for i in order]


def _check_labels(labels: Sequence[str]) -> None:
    if isinstance(labels, str):
        raise TextError(f"labels must be a list of strings, not the string {labels!r}")
    if not labels:
        raise TextError("no labels given; give at least one, such as ['cat', 'dog']")
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise TextError(f"label {label!r} is not a non-empty string")
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if list(labels).count(label) > 1)
        raise TextError(f"label {repeated!r} is given twice; give each label once")

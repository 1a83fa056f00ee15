"""Zero-shot classification: label matrices from labels and prompt templates.

Works on arrays and an ``embed_texts`` callable; it knows of no model and no file.
Follows Radford et al. 2021 (CLIP), section 3.1.4 on prompt ensembling.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..bundle import Scoring
from ..errors import TextError, short
from ..texts.prompts import Template, fill, resolve
from ..types import Prediction
from .vectors import normalize, sigmoid, softmax

# As callers give them: see ``texts.prompts.resolve``.
Templates: TypeAlias = str | Template | Iterable[Template]
Ensemble = Literal["embedding", "probability"]
Floats = NDArray[np.floating[Any]]


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


def probabilities(images: Floats, texts: Floats, scoring: Scoring) -> Floats:
    """How probable each text is for each image.

    Args:
        images: (N, D) unit rows.
        texts: (M, D) unit rows.
        scoring: The bundle's. Its ``"softmax"`` compares the texts with each other, its
            ``"sigmoid"`` judges each alone (SigLIP).

    Returns:
        (N, M).
    """
    score = softmax if scoring.function == "softmax" else sigmoid
    factor = np.exp(scoring.logit_scale)
    return score(factor * (images @ texts.T) + scoring.logit_bias)


def label_matrix(
    labels: Iterable[str],
    templates: Templates,
    ensemble: Ensemble,
    embed_texts: Callable[[Sequence[str]], NDArray[np.float32]],
) -> LabelMatrix:
    """Puts every label into every template and embeds the prompts.

    Args:
        labels: L labels; one that is there twice is a column twice.
        templates: A set's name, a template, or several; see ``prompts.resolve``.
        ensemble: ``"embedding"`` averages a label's unit vectors over the templates
            and normalises the mean, as OpenAI does; ``"probability"`` keeps a matrix a
            template, whose probabilities are averaged.
        embed_texts: (strings) -> (len, D) float32, unit rows.

    Returns:
        The matrix, ready to score images.

    Raises:
        TextError: No labels, an empty one, an unknown ensemble or template.
    """
    asked = fill_in(labels, templates, ensemble)
    return asked.matrix(embed_texts(asked.texts))


@dataclass(frozen=True)
class Prompts:
    """What a label matrix is made of.

    Attributes:
        labels: L labels.
        texts: Every label in the first template, then in the next: T times L.
        ensemble: How they are put together; see ``label_matrix``.
    """

    labels: tuple[str, ...]
    texts: list[str]
    ensemble: Ensemble

    def matrix(self, flat: NDArray[np.float32]) -> LabelMatrix:
        """The matrix, of the texts' vectors (T times L, D)."""
        vectors = flat.reshape(-1, len(self.labels), flat.shape[1])
        if self.ensemble == "embedding":
            vectors = normalize(vectors.mean(axis=0, keepdims=True)).astype(np.float32)
        return LabelMatrix(self.labels, vectors)


def fill_in(labels: Iterable[str], templates: Templates, ensemble: Ensemble) -> Prompts:
    """The prompts of ``label_matrix``, which see."""
    names = _checked_labels(labels)
    if ensemble not in get_args(Ensemble):
        raise TextError(f"ensemble {ensemble!r} is unknown; it is 'embedding' or 'probability'")
    texts = [fill(template, name) for template in resolve(templates) for name in names]
    return Prompts(names, texts, ensemble)


def checked_templates(templates: Templates) -> tuple[Template, ...]:
    """What ``label_matrix`` will fill in, known before anything is embedded.

    Raises:
        TextError: As ``prompts.resolve`` does.
    """
    return resolve(templates)


def ranked(labels: Sequence[str], probabilities: Floats, top: int | None) -> list[Prediction]:
    """The ``top`` labels of one image, most probable first; all when ``top`` is None.

    Raises:
        TextError: ``top`` is under 1.
    """
    if top is not None and top < 1:
        raise TextError(f"top is {top}; it must be at least 1, or None for all labels")
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [Prediction(labels[i], float(probabilities[i])) for i in order]


def _checked_labels(labels: Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise TextError(f"labels must be a list of strings, not {short(labels)}; pass [label, ...]")
    names = tuple(labels)
    if not names:
        raise TextError("no labels given; give at least one, such as ['cat', 'dog']")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise TextError(f"label {short(name)} is not a non-empty string")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        # OpenAI's own 1,000 names for ImageNet have "missile" twice, for two classes.
        warnings.warn(
            f"label {short(repeated[0])} is given more than once; each is a column of its own",
            stacklevel=4,
        )
    return names

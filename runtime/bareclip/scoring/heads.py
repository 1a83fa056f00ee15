"""Heads: what turns image vectors into probabilities of labels, made of texts or of examples.

Arrays only. Every head is one formula over unit rows x,

    f( s · (x Wᵀ) + b  +  α · mean over a label's examples e of exp(−β · (1 − x·e)) )

in which f is the softmax or the sigmoid: W are the label matrix of a zero-shot classifier or the
weights of a linear probe, and the last term is there for a cache model alone (Zhang et al. 2022,
Tip-Adapter, arXiv 2207.09519, equations 4 to 6; the mean instead of their sum, since a user's
classes have unequal numbers of examples).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Scoring
from .vectors import Floats, sigmoid, softmax
from .zero_shot import LabelMatrix


@dataclass(frozen=True)
class Lookup:
    """The examples of a cache model.

    Attributes:
        examples: (K, D) float32, unit rows.
        places: (K,) int64, the place of each one's label.
        weight: α, of an example against the texts.
        sharpness: β, how near an example must be to count.
    """

    examples: NDArray[np.float32]
    places: NDArray[np.int64]
    weight: float
    sharpness: float


@dataclass(frozen=True)
class Head:
    """A classifier, but for the model.

    Attributes:
        matrix: The labels, and W for each template: of unit rows where texts made it, weights of
            any length where examples did.
        scoring: f, the logarithm of s, and b.
        lookup: None but for a cache model.
    """

    matrix: LabelMatrix
    scoring: Scoring
    lookup: Lookup | None = None

    def probabilities(
        self, images: Floats, kind: type[np.float32] | type[np.float64] = np.float64
    ) -> Floats:
        """How probable each label is for each image.

        Args:
            images: (N, D) unit rows.
            kind: To compute in, after the products; float32 is for millions of images.

        Returns:
            (N, L), the mean over templates.
        """
        factor, bias = kind(np.exp(self.scoring.logit_scale)), kind(self.scoring.logit_bias)
        function = softmax if self.scoring.function == "softmax" else sigmoid
        extra = 0 if self.lookup is None else evidence(self.lookup, self._members, images)
        total: Any = 0
        # One template at a time: all at once would be as many times the memory.
        for texts in self.matrix.vectors:
            total = total + function(factor * (images @ texts.T) + bias + extra)
        found: Floats = total / kind(len(self.matrix.vectors))
        return found

    @cached_property
    def _members(self) -> NDArray[np.float32]:
        """``membership`` of the examples: the same for every chunk of a million images."""
        assert self.lookup is not None
        return membership(self.lookup.places, len(self.matrix.labels))


def evidence(lookup: Lookup, members: NDArray[np.float32], images: Floats) -> Floats:
    """What examples add to the logits; (N, L), 0 for a label without examples."""
    near = np.exp(lookup.sharpness * (images @ lookup.examples.T - 1))
    return np.float32(lookup.weight) * (near @ members)


def membership(places: NDArray[np.int64], labels: int) -> NDArray[np.float32]:
    """(K, L): 1 / its label's number of examples in each example's column, else 0."""
    counts = np.bincount(places, minlength=labels)
    rows = np.zeros((len(places), labels), np.float32)
    rows[np.arange(len(places)), places] = 1 / counts[places]
    return rows

"""What every layout is read into: the towers it has, and the constants of a bundle."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tokenizers
from numpy.typing import NDArray

from bareclip.bundle import ImageRecipe, Scoring, TextRecipe

from ..towers.weights import ModifiedResNetWeights, TextTransformerWeights, VisionTransformerWeights

# (a batch of a tower's input) -> (N, D) unit rows.
Forward = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Vision:
    """A vision tower, read: weights still on disk, shapes checked.

    Attributes:
        reference: The checkpoint's own answers, in float64.
    """

    weights: VisionTransformerWeights | ModifiedResNetWeights
    recipe: ImageRecipe
    reference: Forward


@dataclass(frozen=True)
class Text:
    """A text tower, likewise."""

    weights: TextTransformerWeights
    tokenizer: tokenizers.Tokenizer
    recipe: TextRecipe
    reference: Forward


@dataclass(frozen=True)
class Model:
    """A checkpoint, read; it has at least one tower."""

    architecture: str
    embedding_dim: int
    scoring: Scoring
    vision: Vision | None
    text: Text | None

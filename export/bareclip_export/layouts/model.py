"""What every layout is read into: the towers it has, and the constants of a bundle."""

from dataclasses import dataclass

import tokenizers

from bareclip.bundle import ImageRecipe, Scoring, TextRecipe

from ..towers.convolutional_weights import (
    ConvNeXtWeights,
    FastViTWeights,
    StemmedTransformerWeights,
)
from ..towers.weights import (
    BertWeights,
    ModifiedResNetWeights,
    TextTransformerWeights,
    VisionTransformerWeights,
)

VisionWeights = (
    VisionTransformerWeights
    | ModifiedResNetWeights
    | ConvNeXtWeights
    | FastViTWeights
    | StemmedTransformerWeights
)


@dataclass(frozen=True)
class Vision:
    """A vision tower, read: weights still on disk, shapes checked."""

    weights: VisionWeights
    recipe: ImageRecipe


@dataclass(frozen=True)
class Text:
    """A text tower, likewise."""

    weights: TextTransformerWeights | BertWeights
    tokenizer: tokenizers.Tokenizer
    recipe: TextRecipe


@dataclass(frozen=True)
class Model:
    """A checkpoint, read; it has at least one tower."""

    architecture: str
    embedding_dim: int
    scoring: Scoring
    vision: Vision | None
    text: Text | None

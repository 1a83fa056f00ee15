"""What every layout is read into: two towers and the constants of a bundle."""

from dataclasses import dataclass

from bareclip.bundle import ImageRecipe, Scoring

from ..towers.weights import TextTransformer, VisionTransformer


@dataclass(frozen=True)
class Model:
    """A checkpoint, read: weights still on disk, shapes checked."""

    architecture: str
    embedding_dim: int
    scoring: Scoring
    image: ImageRecipe
    vision: VisionTransformer
    text: TextTransformer

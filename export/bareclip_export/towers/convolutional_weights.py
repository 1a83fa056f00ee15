"""What a layout hands to towers of convolutions and layer normalisations; as ``weights``."""

from dataclasses import dataclass

from ..tensors import Tensor
from .weights import LinearWeights, MlpWeights, NormWeights


@dataclass(frozen=True)
class ConvNeXtBlockWeights:
    """A residual block.

    Attributes:
        depthwise: (width, 1, side, side) and its bias.
        norm: Before the MLP.
        scale: (width,), of what the MLP gives.
    """

    depthwise: LinearWeights
    norm: NormWeights
    mlp: MlpWeights
    scale: Tensor


@dataclass(frozen=True)
class ConvNeXtStageWeights:
    """Blocks of one width.

    Attributes:
        norm: Before the squares are joined; None where none are.
        join: (width, width before, 2, 2): of squares of two places a side, one; None for none.
    """

    norm: NormWeights | None
    join: LinearWeights | None
    blocks: tuple[ConvNeXtBlockWeights, ...]


@dataclass(frozen=True)
class ConvNeXtWeights:
    """A ConvNeXt.

    Attributes:
        image_size: All strides together divide it.
        patch: (width, 3, side, side), of squares that do not overlap.
        norm: Of the average of all places.
        hidden: Before the projection, with GELU after it; None for none.
        projection: (embedding_dim, width).
        projection_bias: (embedding_dim,) or None.
    """

    image_size: int
    patch: LinearWeights
    patch_norm: NormWeights
    stages: tuple[ConvNeXtStageWeights, ...]
    norm: NormWeights
    hidden: LinearWeights | None
    projection: Tensor
    projection_bias: Tensor | None

"""What a layout hands to towers of convolutions and layer normalisations; as ``weights``."""

from dataclasses import dataclass

from ..tensors import Tensor
from .weights import (
    ConvolutionWeights,
    LinearWeights,
    MlpWeights,
    NormWeights,
    VisionTransformerWeights,
)


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


@dataclass(frozen=True)
class BatchNormWeights:
    """Batch normalisation: scale, bias, mean and variance (width,)."""

    scale: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float


@dataclass(frozen=True)
class BranchedWeights:
    """A convolution that was trained as the sum of several.

    Attributes:
        branches: Of the largest side first; the others are centred in it.
        identity: Of the input itself, which is added too; None where it is not.
    """

    branches: tuple[ConvolutionWeights, ...]
    identity: BatchNormWeights | None


@dataclass(frozen=True)
class RepMixerWeights:
    """``x + scale * (mixer(x) - norm(x))``, depthwise; scale is (width,)."""

    mixer: BranchedWeights
    norm: BatchNormWeights
    scale: Tensor


@dataclass(frozen=True)
class PlacesAttentionWeights:
    """``x + scale * attention(norm(x))`` of all places to all; scale is (width,)."""

    heads: int
    norm: BatchNormWeights | NormWeights
    query: LinearWeights
    key: LinearWeights
    value: LinearWeights
    out: LinearWeights
    scale: Tensor


@dataclass(frozen=True)
class ConvMlpWeights:
    """``x + scale * mlp(convolution(x))``, depthwise and then place by place; scale is (width,)."""

    convolution: ConvolutionWeights
    mlp: MlpWeights
    scale: Tensor


@dataclass(frozen=True)
class SqueezeWeights:
    """Channels are weighted by what the average of all places says (Hu et al. 2018).

    Attributes:
        reduce, expand: (out, in, 1, 1), ReLU between them and a sigmoid after.
    """

    reduce: LinearWeights
    expand: LinearWeights


@dataclass(frozen=True)
class FastViTJoinWeights:
    """What halves the places: a depthwise convolution, a squeeze, GELU, and 1x1 with GELU."""

    spatial: BranchedWeights
    squeeze: SqueezeWeights | None
    pointwise: BranchedWeights


@dataclass(frozen=True)
class FastViTStageWeights:
    """Blocks of one width.

    Attributes:
        positions: (width, 1, side, side), depthwise, whose result is added; None for none.
    """

    width: int
    join: FastViTJoinWeights | None
    positions: LinearWeights | None
    blocks: tuple[tuple[RepMixerWeights | PlacesAttentionWeights, ConvMlpWeights], ...]


@dataclass(frozen=True)
class FastViTWeights:
    """A FastViT as MobileCLIP has it.

    Attributes:
        image_size: All strides together divide it.
        stem: 3x3 in steps of two, the same depthwise, and 1x1.
        last: Depthwise, to a multiple of the width.
        projection: (embedding_dim, width).
    """

    image_size: int
    stem: tuple[BranchedWeights, BranchedWeights, BranchedWeights]
    stages: tuple[FastViTStageWeights, ...]
    last: BranchedWeights
    squeeze: SqueezeWeights
    projection: LinearWeights


@dataclass(frozen=True)
class StemmedTransformerWeights:
    """A ViT behind convolutions of squares that do not overlap.

    Attributes:
        stem: Each with GELU after it.
        transformer: Its patches are squares of what the stem gives.
    """

    stem: tuple[ConvolutionWeights, ...]
    transformer: VisionTransformerWeights

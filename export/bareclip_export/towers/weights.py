"""What a layout hands to a tower: sizes, and tensors that are still on disk.

LinearWeights weights are (out, in), as checkpoints store them; all shapes are checked already.
"""

from dataclasses import dataclass
from typing import Literal

from ..tensors import Tensor

Activation = Literal["quick_gelu", "gelu", "gelu_tanh", "silu", "relu"]


@dataclass(frozen=True)
class LinearWeights:
    """weight (out, in) and bias (out,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class NormWeights:
    """Layer normalisation over the last axis: scale (width,), bias (width,)."""

    scale: Tensor
    bias: Tensor
    epsilon: float


@dataclass(frozen=True)
class MlpWeights:
    """Expand, activate, contract."""

    activation: Activation
    expand: LinearWeights
    contract: LinearWeights


@dataclass(frozen=True)
class BlockWeights:
    """A pre-norm transformer block."""

    heads: int
    activation: Activation
    attention_norm: NormWeights
    query: LinearWeights
    key: LinearWeights
    value: LinearWeights
    out: LinearWeights
    mlp_norm: NormWeights
    expand: LinearWeights
    contract: LinearWeights


@dataclass(frozen=True)
class AttentionPoolingWeights:
    """A learned query that attends to all tokens, and an MLP after it, which is added.

    Attributes:
        probe: (width,), before the query projection.
        norm: Before the MLP.
    """

    heads: int
    activation: Activation
    probe: Tensor
    query: LinearWeights
    key: LinearWeights
    value: LinearWeights
    out: LinearWeights
    norm: NormWeights
    expand: LinearWeights
    contract: LinearWeights


@dataclass(frozen=True)
class VisionTransformerWeights:
    """A ViT.

    Attributes:
        patch_size: Pixels a side; what ``image_size`` leaves over at the right and the
            bottom is not looked at.
        patch: (width, 3, patch_size, patch_size).
        patch_bias: (width,) or None.
        class_embedding: (width,) or None, where there is no class token.
        positions: (tokens, width), the class token's first if there is one.
        pre_norm: Of what enters the blocks; None for none.
        pooling: What leaves the tower. ``"class"`` is the class token; ``"average"`` the
            average of the patches, then normalised; ``"average_of_normed"`` of the
            normalised patches.
        projection: (embedding_dim, width); None for none.
        projection_bias: (embedding_dim,) or None.
    """

    image_size: int
    patch_size: int
    patch: Tensor
    patch_bias: Tensor | None
    class_embedding: Tensor | None
    positions: Tensor
    pre_norm: NormWeights | None
    blocks: tuple[BlockWeights, ...]
    post_norm: NormWeights
    pooling: Literal["class", "average", "average_of_normed"] | AttentionPoolingWeights
    projection: Tensor | None
    projection_bias: Tensor | None = None


@dataclass(frozen=True)
class ConvolutionWeights:
    """A convolution without bias and the batch normalisation after it.

    Attributes:
        weight: (out, in, side, side).
        scale, bias, mean, variance: (out,), of the normalisation.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    epsilon: float


@dataclass(frozen=True)
class BottleneckWeights:
    """A residual block; what strides is an average over squares of that side.

    Attributes:
        convolutions: 1x1, 3x3 and 1x1.
        shortcut: 1x1, after the same average; None where the input itself is added.
    """

    stride: int
    convolutions: tuple[ConvolutionWeights, ConvolutionWeights, ConvolutionWeights]
    shortcut: ConvolutionWeights | None


@dataclass(frozen=True)
class ModifiedResNetWeights:
    """CLIP's ResNet: three convolutions to begin with, pooled by attention.

    Attributes:
        positions: (1 + places, width), the average's first.
        out: Its projection to (embedding_dim,).
    """

    image_size: int
    stem: tuple[ConvolutionWeights, ConvolutionWeights, ConvolutionWeights]
    blocks: tuple[BottleneckWeights, ...]
    heads: int
    positions: Tensor
    query: LinearWeights
    key: LinearWeights
    value: LinearWeights
    out: LinearWeights


@dataclass(frozen=True)
class TextTransformerWeights:
    """A text tower.

    Attributes:
        tokens: (vocabulary, width).
        positions: (context_length, width).
        causal: Whether a token sees only those before it.
        pooling: Which token leaves the tower: the first of that id; the ``"highest"`` id; or
            the ``"last"``, which may be padding.
        projection: (embedding_dim, width); None for none.
        projection_bias: (embedding_dim,) or None.
    """

    tokens: Tensor
    positions: Tensor
    causal: bool
    pooling: int | Literal["highest", "last"]
    blocks: tuple[BlockWeights, ...]
    post_norm: NormWeights
    projection: Tensor | None
    projection_bias: Tensor | None


@dataclass(frozen=True)
class ProjectionWeights:
    """A linear layer behind a pooled text: weight (out, in), bias (out,) or None.

    Attributes:
        activation: Of its result; None for none.
    """

    weight: Tensor
    bias: Tensor | None = None
    activation: Literal["gelu", "tanh"] | None = None


@dataclass(frozen=True)
class BertWeights:
    """A text tower like BERT's: two-way attention, each block normalised after its sums.

    Attributes:
        tokens: (vocabulary, width).
        positions: (rows, width), the first token's first; or, where they are ``counted``, that of
            padding first.
        types: (kinds of segments, width), of which texts are all the first; None for none.
        norm: Of what enters the blocks.
        blocks: Their normalisations come after attention and MLP have been added.
        pad_id: Fills a text up.
        counted: Whether positions count tokens other than padding, as RoBERTa's do.
        hides_all_padding: Whether attention misses padding that stands within a text too, where
            somebody wrote its name, and not only what fills the text up.
        pooling: What leaves the blocks: the first token, or the average of all that attention sees.
        projections: One after another, of what was pooled.
    """

    tokens: Tensor
    positions: Tensor
    types: Tensor | None
    norm: NormWeights
    blocks: tuple[BlockWeights, ...]
    pad_id: int
    counted: bool
    hides_all_padding: bool
    pooling: Literal["first", "mean"]
    projections: tuple[ProjectionWeights, ...]


@dataclass(frozen=True)
class M2m100Weights(BertWeights):
    """As BERT's, but blocks normalise what they take, as a ViT's do.

    Attributes:
        norm: Of what leaves the blocks.
    """

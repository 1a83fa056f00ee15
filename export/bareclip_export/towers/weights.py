"""What a layout hands to a tower: sizes, and tensors that are still on disk.

Linear weights are (out, in), as checkpoints store them; all shapes are checked already.
"""

from dataclasses import dataclass
from typing import Literal

from ..tensors import Tensor

Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True)
class Linear:
    """weight (out, in) and bias (out,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last axis: scale (width,), bias (width,)."""

    scale: Tensor
    bias: Tensor
    epsilon: float


@dataclass(frozen=True)
class Block:
    """A pre-norm transformer block."""

    heads: int
    activation: Activation
    attention_norm: Norm
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    mlp_norm: Norm
    expand: Linear
    contract: Linear


@dataclass(frozen=True)
class VisionTransformer:
    """CLIP's ViT: its embedding is the class token's.

    Attributes:
        patch_size: Pixels a side; what ``image_size`` leaves over at the right and the
            bottom is not looked at.
        patch: (width, 3, patch_size, patch_size), without bias.
        class_embedding: (width,).
        positions: (1 + patches, width).
        projection: (embedding_dim, width).
    """

    image_size: int
    patch_size: int
    patch: Tensor
    class_embedding: Tensor
    positions: Tensor
    pre_norm: Norm
    blocks: tuple[Block, ...]
    post_norm: Norm
    projection: Tensor


@dataclass(frozen=True)
class TextTransformer:
    """CLIP's causal text tower: its embedding is the end token's.

    Attributes:
        tokens: (vocabulary, width).
        positions: (context_length, width).
        end_id: The id whose first place is the end; None where the end is the place of
            the highest id (configs from before transformers 4.31).
        projection: (embedding_dim, width).
    """

    tokens: Tensor
    positions: Tensor
    end_id: int | None
    blocks: tuple[Block, ...]
    post_norm: Norm
    projection: Tensor

"""Layers by the names that PyTorch gives their tensors."""

from dataclasses import dataclass
from typing import Protocol

from ..tensors import TensorStore
from ..towers.weights import (
    Activation,
    BlockWeights,
    ConvolutionWeights,
    LinearWeights,
    NormWeights,
)

# torch.nn.BatchNorm2d's.
BATCH_EPSILON = 1e-5


class BlockSizes(Protocol):
    """Of a block, whatever configuration says them."""

    @property
    def heads(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def mlp_width(self) -> int: ...
    @property
    def epsilon(self) -> float: ...


@dataclass(frozen=True)
class BlockNames:
    """What a kind of model calls the parts of a block, behind the block's own name."""

    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    expand: str
    contract: str
    mlp_norm: str


def block(
    tensors: TensorStore, name: str, parts: BlockNames, sizes: BlockSizes, activation: Activation
) -> BlockWeights:
    """A block whose queries, keys and values are layers of their own."""
    width, wide = sizes.width, sizes.mlp_width

    def square(part: str) -> LinearWeights:
        return linear(tensors, f"{name}.{part}", width, width)

    return BlockWeights(
        heads=sizes.heads,
        activation=activation,
        attention_norm=norm(tensors, f"{name}.{parts.attention_norm}", width, sizes.epsilon),
        query=square(parts.query),
        key=square(parts.key),
        value=square(parts.value),
        out=square(parts.out),
        mlp_norm=norm(tensors, f"{name}.{parts.mlp_norm}", width, sizes.epsilon),
        expand=linear(tensors, f"{name}.{parts.expand}", wide, width),
        contract=linear(tensors, f"{name}.{parts.contract}", width, wide),
    )


def linear(tensors: TensorStore, name: str, out: int, into: int) -> LinearWeights:
    """A torch.nn.Linear of that name."""
    return LinearWeights(
        tensors.get(f"{name}.weight", (out, into)), tensors.get(f"{name}.bias", (out,))
    )


def packed(
    tensors: TensorStore, weight: str, bias: str, width: int, count: int
) -> list[LinearWeights]:
    """Several layers of one width that are kept as one, as query, key and value are."""
    kernel = tensors.get(weight, (count * width, width))
    offset = tensors.get(bias, (count * width,))
    parts = [(index * width, (index + 1) * width) for index in range(count)]
    return [LinearWeights(kernel.rows(*part), offset.rows(*part)) for part in parts]


def norm(tensors: TensorStore, name: str, width: int, epsilon: float) -> NormWeights:
    """A torch.nn.LayerNorm of that name."""
    return NormWeights(
        tensors.get(f"{name}.weight", (width,)), tensors.get(f"{name}.bias", (width,)), epsilon
    )


def convolution(tensors: TensorStore, name: str, shape: tuple[int, int, int, int]) -> LinearWeights:
    """A torch.nn.Conv2d of that name: (out, in per group, side, side) and its bias."""
    return LinearWeights(
        tensors.get(f"{name}.weight", shape), tensors.get(f"{name}.bias", shape[:1])
    )


def normed(
    tensors: TensorStore, name: str, norm: str, shape: tuple[int, int, int, int]
) -> ConvolutionWeights:
    """A convolution without bias and the batch normalisation after it, by their names."""
    width = shape[:1]
    return ConvolutionWeights(
        weight=tensors.get(f"{name}.weight", shape),
        scale=tensors.get(f"{norm}.weight", width),
        bias=tensors.get(f"{norm}.bias", width),
        mean=tensors.get(f"{norm}.running_mean", width),
        variance=tensors.get(f"{norm}.running_var", width),
        epsilon=BATCH_EPSILON,
    )

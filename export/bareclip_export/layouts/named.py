"""Layers by the names that PyTorch gives their tensors."""

from ..tensors import TensorStore
from ..towers.weights import LinearWeights, NormWeights


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

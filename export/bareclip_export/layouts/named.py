"""Layers by the names that PyTorch gives their tensors."""

from ..tensors import TensorStore
from ..towers.weights import ConvolutionWeights, LinearWeights, NormWeights

# torch.nn.BatchNorm2d's.
BATCH_EPSILON = 1e-5


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

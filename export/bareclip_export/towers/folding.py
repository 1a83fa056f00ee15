"""What training adds up and multiplies, as one layer: in float64, when a graph is written.

Branches of convolutions are linear, so their sum is a convolution (Ding et al. 2021, "RepVGG").
"""

import numpy as np
from numpy.typing import NDArray

from ..tensors import Tensor
from .convolutional_weights import BatchNormWeights, BranchedWeights, RepMixerWeights
from .weights import ConvolutionWeights, LinearWeights

Shape = tuple[int, ...]


def scaled(layer: LinearWeights, factor: Tensor) -> LinearWeights:
    """A layer whose results are multiplied by (out,) factors."""
    return LinearWeights(
        Tensor(layer.weight.shape, lambda: _by_rows(layer.weight.float64(), factor.float64())),
        Tensor(layer.bias.shape, lambda: layer.bias.float64() * factor.float64()),
    )


def pointwise(convolution: LinearWeights) -> LinearWeights:
    """A convolution of single places (out, in, 1, 1) as a layer (out, in)."""
    shape = convolution.weight.shape[:2]
    return LinearWeights(
        Tensor(shape, lambda: convolution.weight.read().reshape(shape)), convolution.bias
    )


def folded(convolution: ConvolutionWeights) -> LinearWeights:
    """A convolution with the batch normalisation after it."""
    given = convolution
    norm = BatchNormWeights(given.scale, given.bias, given.mean, given.variance, given.epsilon)
    return LinearWeights(
        Tensor(given.weight.shape, lambda: _by_rows(given.weight.float64(), _gain(norm))),
        Tensor(given.bias.shape, lambda: _offset(norm)),
    )


def behind(layer: LinearWeights, norm: BatchNormWeights) -> LinearWeights:
    """A layer (out, in) with the batch normalisation before it."""
    return LinearWeights(
        Tensor(layer.weight.shape, lambda: layer.weight.float64() * _gain(norm)),
        Tensor(
            layer.bias.shape,
            lambda: layer.bias.float64() + layer.weight.float64() @ _offset(norm),
        ),
    )


def summed(convolution: BranchedWeights) -> LinearWeights:
    """All branches in one, of the first one's side."""
    shape = convolution.branches[0].weight.shape
    parts = [folded(branch) for branch in convolution.branches]
    if convolution.identity is not None:
        parts.append(_of_norm(convolution.identity, shape))

    def kernel() -> NDArray[np.float64]:
        total = np.zeros(shape)
        for part in parts:
            side = part.weight.shape[2]
            first = (shape[2] - side) // 2
            total[:, :, first : first + side, first : first + side] += part.weight.float64()
        return total

    def bias() -> NDArray[np.float64]:
        return np.sum([part.bias.float64() for part in parts], axis=0)

    return LinearWeights(Tensor(shape, kernel), Tensor(shape[:1], bias))


def mixed(mixer: RepMixerWeights) -> LinearWeights:
    """What a RepMixer does, its input added, as one convolution."""
    inner = summed(mixer.mixer)
    shape = inner.weight.shape
    norm = _of_norm(mixer.norm, shape)

    def kernel() -> NDArray[np.float64]:
        difference = inner.weight.float64() - norm.weight.float64()
        return _identity(shape) + _by_rows(difference, mixer.scale.float64())

    def bias() -> NDArray[np.float64]:
        return mixer.scale.float64() * (inner.bias.float64() - norm.bias.float64())

    return LinearWeights(Tensor(shape, kernel), Tensor(shape[:1], bias))


def with_input(convolution: LinearWeights) -> LinearWeights:
    """A convolution to whose result its input is added."""
    weight = convolution.weight
    kernel = Tensor(weight.shape, lambda: weight.float64() + _identity(weight.shape))
    return LinearWeights(kernel, convolution.bias)


def _of_norm(norm: BatchNormWeights, shape: Shape) -> LinearWeights:
    """A batch normalisation as a convolution of that shape."""
    return LinearWeights(
        Tensor(shape, lambda: _by_rows(_identity(shape), _gain(norm))),
        Tensor(shape[:1], lambda: _offset(norm)),
    )


def _identity(shape: Shape) -> NDArray[np.float64]:
    """(out, in per group, side, side): what gives its input, in groups of equal width."""
    out, grouped, side, _ = shape
    kernel, rows = np.zeros(shape), np.arange(out)
    kernel[rows, rows % grouped, side // 2, side // 2] = 1
    return kernel


def _by_rows(weight: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))


def _gain(norm: BatchNormWeights) -> NDArray[np.float64]:
    return norm.scale.float64() / np.sqrt(norm.variance.float64() + norm.epsilon)


def _offset(norm: BatchNormWeights) -> NDArray[np.float64]:
    return norm.bias.float64() - norm.mean.float64() * _gain(norm)

"""Tensors that stay on disk until they are asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError


@dataclass(frozen=True)
class Tensor:
    """A named tensor of a checkpoint: its shape now, its numbers on demand."""

    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]

    def transposed(self) -> "Tensor":
        """(n, m) as (m, n)."""
        return Tensor(self.shape[::-1], lambda: self.read().T)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Some of its rows, for layers that a checkpoint packs into one."""
        return Tensor((stop - start, *self.shape[1:]), lambda: self.read()[start:stop])

    def first(self) -> "Tensor":
        """The first of its rows, without that axis."""
        return Tensor(self.shape[1:], lambda: self.read()[0])

    def flattened(self) -> "Tensor":
        """Its numbers in one row."""
        return Tensor((math.prod(self.shape),), lambda: self.read().reshape(-1))

    def scaled(self, factor: float) -> "Tensor":
        """Its numbers times another, in float32."""
        return Tensor(self.shape, lambda: self.float32() * np.float32(factor))

    def float32(self) -> NDArray[np.float32]:
        return self.read().astype(np.float32, copy=False)

    def float64(self) -> NDArray[np.float64]:
        return self.read().astype(np.float64)


def unwrapped(tensors: dict[str, Tensor], anchors: Sequence[str], source: str) -> dict[str, Tensor]:
    """A model's tensors by the names it gives them itself.

    One that was saved as a part of another has a prefix before all of them: ``module.`` of
    PyTorch's parallel training, ``clip.`` or ``model.`` of a class around it.

    Args:
        tensors: By the names they were saved by.
        anchors: Names that tell the prefix.
        source: What messages call the place they come from.

    Raises:
        CheckpointError: There are several models in it.
    """
    prefixes = {
        name.removesuffix(anchor)
        for anchor in anchors
        for name in tensors
        if name == anchor or name.endswith(f".{anchor}")
    }
    if not prefixes or "" in prefixes:
        return tensors
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{source} holds several models, whose tensors begin with "
            f"{', '.join(sorted(prefixes)[:4])}: save the one that is meant by itself"
        )
    [prefix] = prefixes
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _finite(values: NDArray[Any], name: str, source: str) -> NDArray[Any]:
    if values.dtype.kind not in "iub" and not np.isfinite(values).all():
        raise CheckpointError(
            f"tensor {name!r} in {source} holds numbers that are none (NaN, or infinite): training "
            "or a conversion to half precision broke it; take an earlier checkpoint, or download "
            "it again"
        )
    return values


@dataclass(frozen=True)
class TensorStore:
    """A checkpoint's tensors by name.

    Attributes:
        tensors: All of them.
        source: What messages call the place they come from.
        config: What they call what the tensors are to fit.
        remedy: What to do where they do not.
    """

    tensors: dict[str, Tensor]
    source: str
    config: str = "the config.json beside them"
    remedy: str = "download both again"

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def get(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that name.

        Raises:
            CheckpointError: There is none, or its shape is another.
        """
        if name not in self.tensors:
            layer = name.removesuffix(".bias")
            if f"{layer}.weight" in self.tensors and layer != name:
                raise CheckpointError(
                    f"layer {layer!r} in {self.source} has a weight and no bias, which the "
                    "architecture that we author has: try --via optimum"
                )
            raise CheckpointError(
                f"tensor {name!r} of shape {shape} is missing in {self.source}; "
                f"the weights do not fit {self.config}: {self.remedy}"
            )
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise CheckpointError(
                f"tensor {name!r} in {self.source} has shape {tensor.shape}, where "
                f"{self.config} asks for {shape}: {self.remedy}"
            )
        return Tensor(shape, lambda: _finite(tensor.read(), name, self.source))

    def scalar(self, name: str) -> float:
        """A number, which some keep as a row of one.

        Raises:
            CheckpointError: There is none, or several.
        """
        shape = self.tensors[name].shape if name in self.tensors else ()
        tensor = self.get(name, shape if shape == (1,) else ())
        return float(tensor.float64().reshape(()))

"""Tensors that stay on disk until they are asked for."""

from collections.abc import Callable
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

    def float32(self) -> NDArray[np.float32]:
        return self.read().astype(np.float32)

    def float64(self) -> NDArray[np.float64]:
        return self.read().astype(np.float64)


@dataclass(frozen=True)
class TensorStore:
    """A checkpoint's tensors by name.

    Attributes:
        tensors: All of them.
        source: What messages call the place they come from.
    """

    tensors: dict[str, Tensor]
    source: str

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def get(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that name.

        Raises:
            CheckpointError: There is none, or its shape is another.
        """
        if name not in self.tensors:
            raise CheckpointError(
                f"tensor {name!r} of shape {shape} is missing in {self.source}; "
                "the weights do not fit the config.json beside them: download both again"
            )
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise CheckpointError(
                f"tensor {name!r} in {self.source} has shape {tensor.shape}, where its "
                f"config.json asks for {shape}: download both again"
            )
        return tensor

    def scalar(self, name: str) -> float:
        """A number, which some keep as a row of one.

        Raises:
            CheckpointError: There is none, or several.
        """
        shape = self.tensors[name].shape if name in self.tensors else ()
        tensor = self.get(name, shape if shape == (1,) else ())
        return float(tensor.float64().reshape(()))

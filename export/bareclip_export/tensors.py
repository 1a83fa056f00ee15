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

"""Reads ``pytorch_model.bin`` without PyTorch and without running what is in it.

Such a file is a zip of one pickle, which describes tensors, and of their raw storages.
A pickle can name any callable of the machine to be called on loading; this reader
admits the few names that describe tensors and refuses every other. The zip layout is
that of ``torch.save`` since 1.6 (torch/serialization.py); older files are refused.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError
from .tensors import Tensor

_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class _Storage:
    """Raw numbers: an entry of the zip, read when a tensor is."""

    path: Path
    entry: str
    dtype: np.dtype[Any]
    length: int

    def read(self) -> NDArray[Any]:
        with zipfile.ZipFile(self.path) as archive:
            return np.frombuffer(archive.read(self.entry), self.dtype)


def read_pickle_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``torch.save``d state dict, by name.

    Raises:
        CheckpointError: It is no such file, or its pickle wants more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info.file_size for info in archive.infolist()}
            description = next((n for n in entries if n.endswith("/data.pkl")), None)
            if description is None:
                raise CheckpointError(f"{path} is a zip without data.pkl, not PyTorch weights")
            data = archive.read(description)
        state = _Unpickler(data, path, description.removesuffix("data.pkl"), entries).load()
    except zipfile.BadZipFile:
        raise CheckpointError(
            f"{path} is not a whole PyTorch file: truncated, or written before PyTorch 1.6; "
            "download it again, or convert it to model.safetensors"
        ) from None
    except CheckpointError:
        raise
    except Exception as error:  # a malformed pickle can raise nearly anything
        raise CheckpointError(f"cannot read {path}: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not tensors by name")
    return {name: t for name, t in state.items() if isinstance(t, Tensor)}


def _ignore_state(unpickler: Any) -> None:
    """Drops what BUILD would write into an object, past its checks; weights need none of it."""
    unpickler.stack.pop()


class _Unpickler(pickle._Unpickler):
    """Admits tensors, their storages and the dictionary they are in; nothing else.

    It is pickle's Python implementation, since the C one's BUILD cannot be replaced.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _ignore_state,
    }

    def __init__(self, data: bytes, path: Path, prefix: str, entries: dict[str, int]) -> None:
        super().__init__(io.BytesIO(data))
        self._path = path
        self._prefix = prefix
        self._entries = entries

    def find_class(self, module: str, name: str) -> Any:
        admitted: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) in admitted:
            return admitted[module, name]
        if module == "torch" and name in _DTYPES:
            return name
        raise CheckpointError(
            f"{self._path} is refused: its pickle asks for {module}.{name}, which is no "
            "tensor and could run anything; use a model.safetensors from a source you trust"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _device, length = pid
        if kind != "storage" or name not in _DTYPES or type(length) is not int:
            raise CheckpointError(f"{self._path} is refused: unknown reference {pid!r}")
        dtype = _DTYPES[name]
        entry = f"{self._prefix}data/{key}"
        if self._entries.get(entry, -1) < length * dtype.itemsize:
            raise CheckpointError(f"{self._path} is damaged: {entry} is missing or cut short")
        return _Storage(self._path, entry, dtype, length)


def _rebuild_tensor(
    storage: _Storage,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    _requires_grad: bool,
    _hooks: Any,
    _metadata: Any = None,
) -> Tensor:
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor without a storage")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise CheckpointError(f"{storage.path} has a tensor of shape {shape} and stride {stride}")
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    # Outside these bounds as_strided would read memory that is not the tensor's.
    if 0 not in shape and (last >= storage.length or math.prod(shape) > storage.length):
        raise CheckpointError(
            f"{storage.path} has a tensor of shape {shape} that reaches outside {storage.entry}"
        )

    def read() -> NDArray[Any]:
        flat = storage.read()[offset:]
        size = storage.dtype.itemsize
        strided = np.lib.stride_tricks.as_strided(flat, shape, [s * size for s in stride])
        return np.array(strided)

    return Tensor(tuple(shape), read)

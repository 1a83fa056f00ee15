"""Writes what ``torch.save`` writes, without PyTorch: see torch/serialization.py."""

import collections
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
}

View = tuple[str, int, tuple[int, ...], tuple[int, ...]]


class _Name:
    """A name that pickles as a global, whether or not it can be imported here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self, *_: Any) -> None:
        raise AssertionError("only a name")


class _Storage:
    def __init__(self, dtype: str, key: str, length: int) -> None:
        self.dtype, self.key, self.length = dtype, key, length


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, shape: Any, stride: Any) -> None:
        self.arguments = (storage, offset, shape, stride, False, collections.OrderedDict())

    def __reduce__(self) -> Any:
        return _Name("torch._utils", "_rebuild_tensor_v2"), self.arguments


class _Pickler(pickle._Pickler):  # the Python one, which lets names be written by hand
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, _Storage):
            kind = _Name("torch", _STORAGES[value.dtype])
            return ("storage", kind, value.key, "cpu", value.length)
        return None

    def save(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(obj, _Name):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        else:
            super().save(obj, *args, **kwargs)


def write_torch_zip(
    path: Path,
    arrays: dict[str, NDArray[Any]],
    views: dict[str, View] | None = None,
    claim: int | None = None,
) -> None:
    """Saves a state dict.

    Args:
        path: The file to write.
        arrays: Tensors by name, each with a storage of its own.
        views: More tensors: name -> (whose storage, offset, shape, stride in elements).
        claim: What length each storage says it has, where that is not the truth.
    """
    storages = {
        name: _Storage(str(array.dtype), str(index), array.size if claim is None else claim)
        for index, (name, array) in enumerate(arrays.items())
    }
    state: dict[str, _Tensor] = collections.OrderedDict()
    for name, array in arrays.items():
        contiguous = np.ascontiguousarray(array)
        stride = tuple(s // array.itemsize for s in contiguous.reshape(array.shape).strides)
        state[name] = _Tensor(storages[name], 0, array.shape, stride)
    for name, (owner, offset, shape, strides) in (views or {}).items():
        state[name] = _Tensor(storages[owner], offset, shape, strides)
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        for name, array in arrays.items():
            archive.writestr(f"archive/data/{storages[name].key}", array.tobytes())
        archive.writestr("archive/version", struct.pack("<2s", b"3\n"))

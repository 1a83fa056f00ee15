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


class _State:
    """A module as ``torch.jit.save`` describes it: a class of the program, and what it holds."""

    def __init__(self, name: str, held: dict[str, Any]) -> None:
        self.name, self.held = name, held


class _Pickler(pickle._Pickler):  # the Python one, which lets names be written by hand
    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, _Storage):
            kind = _Name("torch", _STORAGES[value.dtype])
            return ("storage", kind, value.key, "cpu", value.length)
        return None

    def save(self, obj: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(obj, _Name):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _State):
            self.save(_Name("__torch__.clip.model", obj.name))
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            super().save(obj.held)
            self.write(pickle.BUILD)
        else:
            super().save(obj, *args, **kwargs)


def write_torch_zip(
    path: Path,
    arrays: dict[str, NDArray[Any]],
    views: dict[str, View] | None = None,
    claim: int | None = None,
    within: tuple[str, dict[str, Any]] | None = None,
) -> None:
    """Saves a state dict.

    Args:
        path: The file to write.
        arrays: Tensors by name, each with a storage of its own.
        views: More tensors: name -> (whose storage, offset, shape, stride in elements).
        claim: What length each storage says it has, where that is not the truth.
        within: What name the state dict has in a training checkpoint, and what else is there.
    """
    storages, state = _state(arrays, views, claim)
    _write(path, {**within[1], within[0]: state} if within else state, arrays, storages)


def write_torch_program(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Saves a program's archive, its modules nested as dots in the tensors' names say."""
    storages, state = _state(arrays, None, None)
    root = _State("CLIP", {"training": False, "input_resolution": 224})
    for name, tensor in state.items():
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            module = module.held.setdefault(parent, _State("Module", {"training": False}))
        module.held[last] = tensor
    _write(path, root, arrays, storages)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("archive/code/__torch__/clip/model.py", "class CLIP(Module):\n" * 40)


def _state(
    arrays: dict[str, NDArray[Any]], views: dict[str, View] | None, claim: int | None
) -> tuple[dict[str, _Storage], dict[str, _Tensor]]:
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
    return storages, state


def _write(
    path: Path, saved: Any, arrays: dict[str, NDArray[Any]], storages: dict[str, _Storage]
) -> None:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=2).dump(saved)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        for name, array in arrays.items():
            archive.writestr(f"archive/data/{storages[name].key}", array.tobytes())
        archive.writestr("archive/version", struct.pack("<2s", b"3\n"))

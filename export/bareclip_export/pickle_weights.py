"""Reads what PyTorch saves without PyTorch, and without running what is in it.

Such a file, ``pytorch_model.bin`` or any ``.pt``, is a zip of one pickle, which describes tensors,
and of their raw storages. A pickle can name any callable of the machine to be called on loading;
this reader admits the few names that describe tensors and refuses every other. The zip layout is
that of ``torch.save`` since 1.6 (torch/serialization.py); older files are refused.

What ``torch.jit.save`` writes, as OpenAI's archives are, is such a zip too, with a program beside
(torch/csrc/jit/serialization/pickler.cpp). Its pickle describes modules, which are taken for what
they hold; the program is never opened.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bareclip.errors import short

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


# A thousand tensors are described in 200 KB; a byte of a pickle can make a hundred of memory.
_LONGEST_PICKLE = 4 << 20
_MOST_ENTRIES = 100_000
# Of a tensor: NumPy has as many axes.
_MOST_AXES = 32
_LARGEST = 1 << 48
# Where a training checkpoint has the model's tensors: open_clip's, PyTorch's tutorials', others'.
_STATES = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class _Storage:
    """Raw numbers: an entry of the zip, read when a tensor is."""

    path: Path
    entry: str
    dtype: np.dtype[Any]
    length: int

    def read(self) -> NDArray[Any]:
        """(length,) numbers.

        Raises:
            CheckpointError: The file has fewer bytes than its directory says.
        """
        size = self.length * self.dtype.itemsize
        data = _read(self.path, self.entry, size)
        if len(data) != size:
            raise CheckpointError(
                f"{self.path} is damaged: {self.entry} has {len(data)} bytes, where a tensor needs "
                f"{size}; download it again"
            )
        return np.frombuffer(data, self.dtype)


def _read(path: Path, entry: str, most: int) -> bytes:
    """An entry's first bytes. What the zip's directory says of it is not believed."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            return file.read(most)
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {entry}: {error}; download it again") from error


class _Module:
    """A module of a program, as its pickle describes it: only what it holds, by name."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}


def is_program(path: Path) -> bool:
    """Whether ``torch.jit.save`` wrote it; False where it is no zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def read_pickle_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, of a state dict, of a training checkpoint with one in it, or of a program.

    Raises:
        CheckpointError: It is no such file, or its pickle wants more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        # PyTorch compresses no tensors, so that none is larger than it looks; of a program's other
        # files it does.
        read = (i for i in infos if i.filename.endswith("/data.pkl") or "/data/" in i.filename)
        if odd := next((i for i in read if i.compress_type or i.flag_bits & 1), None):
            raise CheckpointError(
                f"{path} is refused: {short(odd.filename)} in it is compressed, which PyTorch's "
                "files are not; use a model.safetensors"
            )
        entries = {info.filename: info.file_size for info in infos}
        description = next((n for n in entries if n.endswith("/data.pkl")), None)
        if description is None:
            raise CheckpointError(f"{path} is a zip without data.pkl, not PyTorch weights")
        if len(infos) > _MOST_ENTRIES or entries[description] > _LONGEST_PICKLE:
            raise CheckpointError(
                f"{path} is refused: it has {len(infos)} files and a data.pkl of "
                f"{entries[description]} bytes, more than weights come to; use a model.safetensors"
            )
        data = _read(path, description, _LONGEST_PICKLE)
        state = _Unpickler(data, path, description.removesuffix("data.pkl"), entries).load()
    except zipfile.BadZipFile:
        raise CheckpointError(
            f"{path} is not a whole PyTorch file: truncated, or written before PyTorch 1.6; "
            "download it again, or convert it to model.safetensors"
        ) from None
    except CheckpointError:
        raise
    except Exception as error:  # a malformed pickle can raise nearly anything
        reason = f"{type(error).__name__}: {short(str(error))}"
        raise CheckpointError(f"cannot read {path}: {reason}") from error
    if isinstance(state, _Module):
        return dict(_held(state))
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not tensors by name")
    inner = (state.get(name) for name in _STATES)
    state = next((found for found in inner if isinstance(found, dict)), state)
    return {n: t for n, t in state.items() if type(n) is str and isinstance(t, Tensor)}


def _held(module: _Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors by their dotted names; a module that is met again is not entered again."""
    waiting, met = [("", module)], {id(module)}
    while waiting:
        prefix, module = waiting.pop()
        for name, value in module.state.items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, _Module) and id(value) not in met:
                met.add(id(value))
                waiting.append((f"{prefix}{name}.", value))


def _build(unpickler: Any) -> None:
    """Keeps what a module holds; drops what BUILD would write into another object, past its checks.

    Weights need none of that.
    """
    state = unpickler.stack.pop()
    target = unpickler.stack[-1]
    if type(target) is _Module and type(state) is dict:
        target.state = {name: value for name, value in state.items() if type(name) is str}


def _set_item(unpickler: Any) -> None:
    value, name = unpickler.stack.pop(), unpickler.stack.pop()
    _put(unpickler.stack[-1], [(name, value)])


def _set_items(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    _put(unpickler.stack[-1], list(zip(items[::2], items[1::2], strict=True)))


def _make_dict(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    made: dict[str, Any] = {}
    _put(made, list(zip(items[::2], items[1::2], strict=True)))
    unpickler.append(made)


def _put(target: Any, items: list[tuple[Any, Any]]) -> None:
    """Adds to a dictionary under strings and numbers only, which an optimizer's state has.

    A tuple of a tuple of itself and itself, 60 times over, takes 60 bytes and no end to hash.
    """

    def simple(name: Any) -> bool:
        return type(name) is str or (type(name) is int and 0 <= name < _LARGEST)

    if not isinstance(target, dict) or not all(simple(name) for name, _ in items):
        raise TypeError("it puts something under what is neither a string nor a number")
    target.update(items)


def _ordered(items: Any = ()) -> dict[str, Any]:
    if type(items) not in (list, tuple) or any(len(item) != 2 for item in items):
        raise TypeError("it fills a dictionary with what is no pair")
    made: dict[str, Any] = collections.OrderedDict()
    _put(made, [(item[0], item[1]) for item in items])
    return made


def _nothing(*_: Any) -> None:
    return None


def _refused(unpickler: Any) -> None:
    raise TypeError("it holds sets or byte arrays, which no weights do")


class _Unpickler(pickle._Unpickler):
    """Admits tensors, their storages, and what they are in: dictionaries, modules; nothing else.

    It is pickle's Python implementation, since the C one's BUILD cannot be replaced. Nothing
    that is read is hashed, compared or shown before it is known to be a string or a number.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _make_dict,
        **dict.fromkeys(
            (pickle.BYTEARRAY8[0], pickle.EMPTY_SET[0], pickle.ADDITEMS[0], pickle.FROZENSET[0]),
            _refused,
        ),
    }

    def __init__(self, data: bytes, path: Path, prefix: str, entries: dict[str, int]) -> None:
        super().__init__(io.BytesIO(data))
        self._path = path
        self._prefix = prefix
        self._entries = entries

    def find_class(self, module: str, name: str) -> Any:
        admitted: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): _ordered,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) in admitted:
            return admitted[module, name]
        if module == "torch" and name in _DTYPES:
            return name
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch.jit._pickle":  # lists of numbers, which no tensor is
            return _nothing
        asked = short(f"{module}.{name}").strip("'\"")
        raise CheckpointError(
            f"{self._path} is refused: its pickle asks for {asked}, which is no "
            "tensor and could run anything; use a model.safetensors from a source you trust"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        types = tuple(map(type, pid)) if type(pid) is tuple else ()
        if types[:3] != (str, str, str) or types[4:] != (int,) or pid[1] not in _DTYPES:
            raise CheckpointError(f"{self._path} is refused: a reference of it is to no storage")
        _, name, key, _device, length = pid
        dtype = _DTYPES[name]
        entry = f"{self._prefix}data/{key}"
        if not 0 <= length * dtype.itemsize <= self._entries.get(entry, -1):
            raise CheckpointError(
                f"{self._path} is damaged: {short(entry)} is missing or cut short"
            )
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
    if type(shape) is not tuple or type(stride) is not tuple or len(shape) > _MOST_AXES:
        raise TypeError("a tensor without a shape and a stride")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or not all(type(n) is int and 0 <= n < _LARGEST for n in numbers):
        raise CheckpointError(f"{storage.path} has a tensor whose shape or stride is none")
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    # Outside these bounds as_strided would read memory that is not the tensor's.
    if 0 not in shape and (last >= storage.length or math.prod(shape) > storage.length):
        raise CheckpointError(
            f"{storage.path} has a tensor of shape {shape} that reaches outside {storage.entry}"
        )

    def read() -> NDArray[Any]:
        if 0 in shape:
            return np.zeros(shape, storage.dtype)
        flat = storage.read()[offset:]
        size = storage.dtype.itemsize
        strided = np.lib.stride_tricks.as_strided(flat, shape, [s * size for s in stride])
        return np.array(strided)

    return Tensor(tuple(shape), read)

"""pytorch_model.bin: what torch.save wrote is read, anything else is refused."""

import collections
import contextlib
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bareclip_export.errors import CheckpointError
from bareclip_export.pickle_weights import read_pickle_weights
from tests.export.fuzzing import damaged
from tests.torch_zip import write_torch_zip

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64, np.int64, np.int32, np.uint8]
)
def test_tensors_of_every_type_come_back(tmp_path: Path, dtype: Any) -> None:
    wanted = {
        "a.weight": (RNG.standard_normal((3, 4, 5)) * 9).astype(dtype),
        "scalar": np.array(7).astype(dtype),
        "empty": np.zeros((0, 3), dtype),
    }
    write_torch_zip(tmp_path / "x.bin", wanted)
    found = read_pickle_weights(tmp_path / "x.bin")
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name].read(), array)


def test_views_share_a_storage_with_offset_and_stride(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32)
    write_torch_zip(
        tmp_path / "x.bin",
        {"t": base},
        views={"view": ("t", 2, (3, 2), (1, 8))},
    )
    found = read_pickle_weights(tmp_path / "x.bin")["view"]
    wanted = base[2:].reshape(-1)[np.add.outer(np.arange(3), 8 * np.arange(2))]
    np.testing.assert_array_equal(found.read(), wanted)


def _pickle(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(16))
    return path


class _Call:
    """Pickles as a call of ``function``, as a hostile file would."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


def _word(word: bytes) -> bytes:
    """A string in pickle's protocol 2."""
    return b"X" + len(word).to_bytes(4, "little") + word


def _hostile(target: Path) -> list[tuple[str, bytes]]:
    import builtins
    import os
    import subprocess

    touch = f"open({str(target)!r}, 'w')"
    named = {
        "system": _Call(os.system, f"touch {target}"),
        "eval": _Call(builtins.eval, touch),
        "popen": _Call(subprocess.Popen, ["touch", str(target)]),
        "inside a state dict": {"a": _Call(builtins.exec, touch)},
        "getattr": _Call(getattr, collections.OrderedDict, "fromkeys"),
    }
    pickles = [(name, pickle.dumps(value, protocol=2)) for name, value in named.items()]
    # Protocol 4 may name attributes of what is admitted: OrderedDict.__init__.__globals__.
    dotted = b"\x80\x04\x8c\x0bcollections\x8c\x16OrderedDict.__reduce_ex__\x93."
    storage = b"\x80\x02ctorch\nload\n."
    rebuilt = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89Nt R."
    # BUILD writes into an object's attributes, past whatever made it: a storage of 4
    # numbers that says it has 2**40.
    words = [b"storage", b"ctorch\nFloatStorage\n", b"0", b"cpu"]
    pid = (
        b"(" + b"".join(w if w[:1] == b"c" and b"\n" in w else _word(w) for w in words) + b"K\x04tQ"
    )
    claim = b"}X\x06\x00\x00\x00lengthI1099511627776\nsb"
    shape = b"K\x00(I4194304\nt(K\x01t\x89N"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    built = b"\x80\x02}" + _word(b"a") + rebuild + pid + claim + shape + b"tRs."
    return [
        *pickles,
        ("built", built),
        ("dotted", dotted),
        ("torch.load", storage),
        ("no storage", rebuilt),
    ]


@pytest.mark.parametrize("index", range(9))
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path: Path, index: int) -> None:
    target = tmp_path / "was-run"
    _, data = _hostile(target)[index]
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin"):
        read_pickle_weights(_pickle(tmp_path, data))
    assert not target.exists()


def test_the_refusal_says_what_was_asked_for(tmp_path: Path) -> None:
    data = pickle.dumps(_Call(eval, "1"), protocol=2)
    with pytest.raises(
        CheckpointError, match=r"asks for (__builtin__|builtins)\.eval, which is no"
    ):
        read_pickle_weights(_pickle(tmp_path, data))


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (5,), (1,)),
        (4, (1,), (1,)),
        (0, (2, 2), (4, 1)),
        (-1, (1,), (1,)),
        (0, (1 << 60,), (0,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
    ],
)
def test_a_tensor_may_not_reach_outside_its_storage(
    tmp_path: Path, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    write_torch_zip(
        tmp_path / "x.bin",
        {"t": np.zeros(4, np.float32)},
        views={"view": ("t", offset, shape, stride)},
    )
    with pytest.raises(CheckpointError):
        read_pickle_weights(tmp_path / "x.bin")["view"].read()


def test_a_cut_storage_and_a_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    write_torch_zip(path, {"t": np.zeros(400, np.float32)}, claim=800)
    with pytest.raises(CheckpointError, match="is missing or cut short"):
        read_pickle_weights(path)
    write_torch_zip(path, {"t": np.zeros(400, np.float32)})
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"not a whole PyTorch file: .*model\.safetensors"):
        read_pickle_weights(path)


def test_what_is_no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a list, not tensors by name"):
        read_pickle_weights(_pickle(tmp_path, pickle.dumps([1, 2])))
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(CheckpointError, match=r"a zip without data\.pkl"):
        read_pickle_weights(tmp_path / "x.bin")


def test_garbled_pickles_never_escape_as_another_error(tmp_path: Path) -> None:
    write_torch_zip(tmp_path / "x.bin", {"a.weight": np.ones((2, 2), np.float32), "b": np.ones(4)})
    with zipfile.ZipFile(tmp_path / "x.bin") as archive:
        whole = archive.read("archive/data.pkl")
    assert list(pickletools.genops(whole))
    for data in damaged(whole, seed=11):
        with contextlib.suppress(CheckpointError):
            for tensor in read_pickle_weights(_pickle(tmp_path, data)).values():
                tensor.read()


def test_damaged_zips_never_escape_as_another_error(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    write_torch_zip(path, {"a": np.ones((2, 2), np.float32)})
    for data in damaged(path.read_bytes(), seed=12):
        path.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            for tensor in read_pickle_weights(path).values():
                assert tensor.read().shape == tensor.shape


def test_a_zips_directory_is_not_believed(tmp_path: Path) -> None:
    """A file of 500 bytes whose directory says that 4 kB of numbers are in it."""
    path = tmp_path / "x.bin"
    write_torch_zip(path, {"t": np.ones(1024, np.float32)})
    data = path.read_bytes()
    start = data.index(np.ones(1024, np.float32).tobytes())
    cut = data[: start + 16] + data[start + 4096 :]
    directory = cut.index(b"PK\x01\x02")
    # Places that the end of the file gives, and the entry after the one that was cut.
    end = cut.rindex(b"PK\x05\x06")
    cut = cut[: end + 16] + directory.to_bytes(4, "little") + cut[end + 20 :]
    path.write_bytes(cut)
    with pytest.raises(CheckpointError, match=r"x\.bin is damaged: archive/data/0"):
        read_pickle_weights(path)["t"].read()


def test_a_storage_of_fewer_bytes_than_its_tensor_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.bin"
    write_torch_zip(path, {"t": np.ones(8, np.float32)})
    tensor = read_pickle_weights(path)["t"]
    write_torch_zip(path, {"t": np.ones(2, np.float32)})
    with pytest.raises(CheckpointError, match="has 8 bytes, where a tensor needs 32; download it"):
        tensor.read()


def test_a_compressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**8))
    assert path.stat().st_size < 10**6
    with pytest.raises(CheckpointError, match=r"'archive/data\.pkl' in it is compressed"):
        read_pickle_weights(path)


# Each takes no end of time or memory, or the process with it, where a reader hashes, compares,
# shows or believes what it reads.
_DOUBLED = b"K\x00" + b"2\x86" * 60  # DUP, TUPLE2: (x, x) of itself, 2**60 numbers
_STORAGE = b"(X\x07\0\0\0storage%bX\x01\0\0\x000X\x03\0\0\0cpu%btQ"
_FLOAT, _FOUR = b"ctorch\nFloatStorage\n", b"K\x04"
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n("
BOMBS = {
    "a key": b"}" + _DOUBLED + b"K\x01s.",
    "several keys": b"}(" + _DOUBLED + b"K\x01u.",
    "a key of a literal": b"(" + _DOUBLED + b"K\x01d.",
    "a key of OrderedDict": b"ccollections\nOrderedDict\n](" + _DOUBLED + b"K\x01tae\x85R.",
    "in a set": b"\x80\x04\x8f(" + _DOUBLED + b"\x90.",
    "in a frozen set": b"\x80\x04(" + _DOUBLED + b"\x91.",
    "a deep tuple": b"}" + b")" + b"\x85" * 10**6 + b"K\x01s.",
    "a deep tuple, whole": b")" + b"\x85" * 10**6 + b".",
    "a byte array": b"\x80\x05\x96" + (6 << 30).to_bytes(8, "little") + b".",
    "a kind of storage": b"}X\x01\0\0\0a" + _STORAGE % (_DOUBLED, _FOUR) + b"s.",
    "a length of a storage": b"}X\x01\0\0\0a" + _STORAGE % (_FLOAT, _DOUBLED) + b"s.",
    "a reference": _DOUBLED + b"Q.",
    "a shape": b"}X\x01\0\0\0a" + _REBUILD + _STORAGE % (_FLOAT, _FOUR) + b"K\x00" + _DOUBLED
    + b"K\x01\x85\x89NtRs.",
    "a size in a shape": b"}X\x01\0\0\0a" + _REBUILD + _STORAGE % (_FLOAT, _FOUR) + b"K\x00"
    + _DOUBLED + b"\x85K\x01\x85\x89NtRs.",
    "a long number": b"}X\x01\0\0\0a" + _REBUILD + _STORAGE % (_FLOAT, _FOUR) + b"K\x00\x8b"
    + (10**6).to_bytes(4, "little") + b"\x01" * 10**6 + b"\x85K\x01\x85\x89NtRs.",
    "a name": b"c" + b"a" * 10**6 + b"\nb\n.",
    "too long": b"}" + b"N0" * (3 << 20) + b".",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_cost_a_line(tmp_path: Path, bomb: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_pickle_weights(_pickle(tmp_path, BOMBS[bomb]))
    assert len(str(caught.value)) < 500

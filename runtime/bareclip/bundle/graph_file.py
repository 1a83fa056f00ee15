"""What a graph refers to and is made of, read without its weights and without onnx.

ONNX Runtime opens whatever files a graph names, before 1.24 anywhere on the disk, and runs loops
that never end, which no interrupt reaches. An ONNX file is a
protocol buffer (onnx/onnx, onnx/onnx.proto; protobuf.dev, "Encoding"); of it only the parts that
lead to tensors are looked at, and all else is skipped.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import BundleError, short
from .format import TowerFiles

# Message -> field -> the message in it, of those that tensors are within.
_WITHIN = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse",
    },
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}  # fmt: skip
_KEY, _VALUE = 1, 2
_OPERATOR = 4
# Loops without an end, and a node whose attribute is the path of another file.
_REFUSED = {"Loop", "Scan", "EPContext"}
_LONGEST_NAME = 4096
_BYTES, _VARINT = 2, 0
_FIXED = {1: 8, 5: 4}


def check_graph(folder: Path, tower: TowerFiles) -> None:
    """Refuses a graph that reads other files than its manifest's, or that may never end.

    Args:
        folder: The bundle's.
        tower: Whose graph it is.

    Raises:
        BundleError: It is one of those, or cannot be read.
    """
    graph = folder / tower.graph
    if graph.suffix != ".onnx":
        raise BundleError(f"{graph} is no .onnx file; export the bundle again")
    locations, operators = _read(graph)
    place = PurePosixPath(tower.graph).parent
    # A location is the graph's own text: one that climbs matches no name of a manifest.
    unlisted = sorted(name for name in locations if str(place / name) not in tower.files)
    if unlisted:
        raise BundleError(
            f"{graph} keeps weights in {short(unlisted[0])}, which is none of its bundle's files; "
            "export the bundle again"
        )
    if refused := sorted(operators & _REFUSED):
        raise BundleError(
            f"{graph} has the operator {refused[0]}, which no tower needs and which may never end "
            "or may read other files; export the bundle again"
        )


def external_locations(graph: Path) -> set[str]:
    """Names of all files that a graph's tensors say they are in, in whatever place of it.

    Those of initializers, of attributes, and of graphs and functions within it; whether or not a
    tensor also has its numbers in the graph.

    Args:
        graph: The ``.onnx`` file.

    Returns:
        The names as they stand there: relative ones are meant from the graph's folder.

    Raises:
        BundleError: It cannot be read, or is no ONNX file.

    Examples:
        >>> from bareclip.bundle import DEMO
        >>> external_locations(DEMO / "fp32" / "text.onnx")
        {'text.onnx.data'}
    """
    return _read(graph)[0]


def _read(graph: Path) -> tuple[set[str], set[str]]:
    """External locations and names of operators."""
    try:
        with (
            graph.open("rb") as file,
            # Pages of weights that are skipped are never read.
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return _contents(data)
    except (OSError, ValueError, IndexError) as error:
        raise BundleError(
            f"cannot read {graph} as an ONNX graph: {error}; export or copy the bundle again"
        ) from error


def _contents(data: mmap.mmap) -> tuple[set[str], set[str]]:
    found: set[str] = set()
    operators: set[str] = set()
    left = [("Model", 0, len(data))]
    while left:
        kind, start, end = left.pop()
        if kind == "Entry":
            if (name := _location(data, start, end)) is not None:
                found.add(name)
            continue
        within = _WITHIN[kind]
        for field, place, stop in _fields(data, start, end):
            if field in within:
                left.append((within[field], place, stop))
            elif kind == "Node" and field == _OPERATOR:
                if stop - place > _LONGEST_NAME:
                    raise ValueError(f"an operator in it has a name of {stop - place} letters")
                operators.add(data[place:stop].decode())
    return found, operators


def _location(data: mmap.mmap, start: int, end: int) -> str | None:
    """The value of a StringStringEntryProto whose key is "location"."""
    read = {_KEY: b"", _VALUE: b""}
    for field, place, stop in _fields(data, start, end):
        if field in read:
            if stop - place > _LONGEST_NAME:
                raise ValueError(f"a name in it has {stop - place} letters")
            read[field] = data[place:stop]
    return read[_VALUE].decode() if read[_KEY] == b"location" else None


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Of a message's fields that hold bytes: number, where they begin and end."""
    place = start
    while place < end:
        key, place = _varint(data, place)
        wire = key & 7
        # protobuf reads a key into 32 bits, and what is above them would be another field there.
        if not 8 <= key < 1 << 32:
            raise ValueError("it has a field without a number")
        if wire == _BYTES:
            length, place = _varint(data, place)
            if place + length <= end:
                yield key >> 3, place, place + length
            place += length
        elif wire == _VARINT:
            _, place = _varint(data, place)
        elif wire in _FIXED:
            place += _FIXED[wire]
        else:
            raise ValueError("it has a field of a kind that ONNX has none of")
    if place > end:
        raise ValueError("it ends in the middle")


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    """A number, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number in it does not end")

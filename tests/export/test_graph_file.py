"""What files a graph refers to, held to onnx' own reading; and what is no graph."""

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from bareclip import BareclipError
from bareclip.bundle import DEMO
from bareclip.bundle.graph_file import external_locations
from tests.export.fuzzing import COUNT, damaged


def external(name: str, location: str, **kept: bool) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    set_external_data(tensor, location)
    if not kept.get("raw", False):
        tensor.ClearField("raw_data")
    return tensor


def model() -> onnx.ModelProto:
    """With tensors in every place that a graph can have one."""
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external("c", "in-a-branch"))],
        "inner", [], [], [external("i", "of-a-branch")],
    )  # fmt: skip
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(external("v", "sparse-values"))
    sparse.indices.CopyFrom(external("x", "sparse-indices"))
    nodes = [
        helper.make_node("Constant", [], ["a"], value=external("a", "../attribute")),
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
        helper.make_node("If", ["a"], ["b"], then_branch=inner, else_branch=inner),
        helper.make_node("Odd", [], ["t"], many=[external("m", "one-of-many")]),
        helper.make_node("Odd", [], ["g"], graphs=[inner]),
        helper.make_node("Constant", [], ["h"], value=external("h", "also-inline", raw=True)),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [external("w", "/etc/passwd")])
    graph.sparse_initializer.append(sparse)
    made = helper.make_model(graph)
    function = made.functions.add()
    function.node.append(
        helper.make_node("Constant", [], ["f"], value=external("f", "in-a-function"))
    )
    training = made.training_info.add()
    training.initialization.initializer.append(external("z", "in-training"))
    return made


PLACES = {
    "in-a-branch", "of-a-branch", "sparse-values", "sparse-indices", "../attribute", "one-of-many",
    "also-inline", "/etc/passwd", "in-a-function", "in-training",
}  # fmt: skip


def test_every_place_of_a_graph_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(model().SerializeToString())
    assert external_locations(path) == PLACES
    assert external_locations(DEMO / "fp32" / "vision.onnx") == {"vision.onnx.data"}


def test_a_graph_in_two_parts_is_one_as_protobuf_has_it(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(model().SerializeToString() + model().SerializeToString())
    assert external_locations(path) == PLACES


def test_weights_within_a_graph_are_not_read(tmp_path: Path) -> None:
    """Two gigabytes less a bit, most of it a hole in the file."""
    path = tmp_path / "x.onnx"
    size = 1 << 30
    tail = model().SerializeToString()
    with path.open("wb") as file:
        # Model.graph of that length, with an initializer whose raw_data is nearly all of it.
        raw = b"\x4a" + _varint(size)
        tensor = b"\x2a" + _varint(len(raw) + size) + raw
        file.write(b"\x3a" + _varint(len(tensor) + size) + tensor)
        file.seek(size, 1)
        file.write(tail)
    assert external_locations(path) == PLACES


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 128:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def locations(found: onnx.ModelProto) -> set[str]:
    """By onnx' own generated code."""
    seen: set[str] = set()

    def look(message: object) -> None:
        for field, value in message.ListFields():  # type: ignore[attr-defined]
            if field.message_type is None:
                continue
            for one in value if not hasattr(value, "ListFields") else [value]:
                if isinstance(one, TensorProto):
                    seen.update(e.value for e in one.external_data if e.key == "location")
                look(one)

    look(found)
    return seen


def test_damaged_graphs_are_refused_or_no_location_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    read = 0
    for data in damaged(model().SerializeToString(), seed=9):
        path.write_bytes(data)
        try:
            wanted = locations(onnx.ModelProto.FromString(data))
        except Exception:
            wanted = set()
        try:
            found = external_locations(path)
        except BareclipError:
            continue
        assert found >= wanted
        read += 1
    assert read > COUNT // 20


@pytest.mark.parametrize("data", [b"", b"\xff" * 30, b"\x3a\x7f", b"\x3b\x00", b"ORTM" * 9])
def test_what_is_no_graph(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    with pytest.raises(BareclipError, match="as an ONNX graph: .*export or copy the bundle again"):
        external_locations(path)
    with pytest.raises(BareclipError, match="as an ONNX graph"):
        external_locations(tmp_path / "none.onnx")


def test_random_bytes(tmp_path: Path) -> None:
    rng, path = random.Random(10), tmp_path / "x.onnx"
    for _ in range(500):
        path.write_bytes(rng.randbytes(rng.randrange(200)))
        try:
            external_locations(path)
        except BareclipError:
            continue

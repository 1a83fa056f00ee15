"""What in a graph can be quantized: products with a constant weight, convolutions and tables.

Works on any graph, ours or another exporter's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]

CONTRIB = "com.microsoft"

# Smaller weights are not worth their scales.
_FEWEST = 1024
# These move numbers about and change none.
_MOVING = {"Reshape", "Transpose", "Slice", "Gather", "GatherND", "Squeeze", "Unsqueeze", "Flatten"}


@dataclass(frozen=True)
class Product:
    """``input @ weight + bias`` in a graph.

    Attributes:
        node: The MatMul.
        add: The Add of a bias after it, None where there is none.
        name: The weight's.
    """

    node: ir.Node
    add: ir.Node | None
    name: str

    @property
    def input(self) -> ir.Value:
        return given(self.node.inputs[0])

    @property
    def output(self) -> ir.Value:
        return (self.add or self.node).outputs[0]

    def weight(self) -> Floats:
        """(K, N)."""
        return array_of(given(self.node.inputs[1]))

    def bias(self) -> Floats:
        """(N,), zeros where it has none."""
        if self.add is None:
            return np.zeros(self.shape[1], np.float32)
        return array_of(next(v for v in self.add.inputs if is_constant(v)))

    def scale_rows(self, surgeon: "Surgeon", factor: Floats) -> None:
        """Multiplies the weight's rows by (K,) factors, when it is asked for."""
        old = given(self.node.inputs[1])
        name = f"{self.name}.smooth"

        def tensor() -> ir.TensorProtocol:
            return ir.tensor(array_of(old) * factor[:, None], name=name)

        lazy = ir.LazyTensor(tensor, ir.DataType.FLOAT, ir.Shape(self.shape), name=name)
        self.node.replace_input_with(1, surgeon.weight(name, lazy))

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N)."""
        rows, columns = given(self.node.inputs[1]).shape.numpy()  # type: ignore[union-attr]
        return rows, columns

    def bytes(self) -> ir.Value | None:
        """The uint8 pixels that are cast to be its input, where it has such."""
        cast = self.input.producer()
        if cast is None or cast.op_type != "Cast":
            return None
        return bytes_of(cast.inputs[0])


@dataclass(frozen=True)
class Table:
    """Rows of a constant float table, looked up by ids.

    Attributes:
        node: The Gather.
        name: The table's.
    """

    node: ir.Node
    name: str

    def rows(self) -> Floats:
        """(rows, width)."""
        return array_of(self.node.inputs[0])

    def look_up(self, surgeon: "Surgeon", suffix: str, array: NDArray[Any]) -> ir.Value:
        """Rows of another table by the same ids."""
        other = surgeon.constant(f"{self.name}.{suffix}", array)
        return surgeon.add(self.node, "Gather", [other, self.node.inputs[1]])


@dataclass(frozen=True)
class Convolution:
    """A convolution with constant filters.

    Attributes:
        node: The Conv.
        name: The filters'.
    """

    node: ir.Node
    name: str

    def filters(self) -> Floats:
        """(out, in, ..)."""
        return array_of(self.node.inputs[1])


def find_products(model: ir.Model) -> list[Product]:
    """Every MatMul with a constant two-dimensional float weight, in the graph's order."""
    return [
        Product(node, _bias_add(node), str(given(node.inputs[1]).name))
        for node in model.graph
        if node.op_type == "MatMul" and _is_weight(node.inputs[1])
    ]


def find_convolutions(model: ir.Model) -> list[Convolution]:
    """Every Conv with constant float filters."""
    return [
        Convolution(node, str(given(node.inputs[1]).name))
        for node in model.graph
        if node.op_type == "Conv" and _is_large(node.inputs[1])
    ]


def find_tables(model: ir.Model) -> list[Table]:
    """Every Gather of whole rows from a constant two-dimensional float table."""
    return [
        Table(node, str(given(node.inputs[0]).name))
        for node in model.graph
        if node.op_type == "Gather"
        and _is_weight(node.inputs[0])
        and node.attributes.get_int("axis", 0) == 0
    ]


def bytes_of(source: ir.Value | None) -> ir.Value | None:
    """The value, where it is the graph's uint8 pixels, perhaps moved about."""
    source = value = given(source)
    while (producer := value.producer()) is not None and producer.op_type in _MOVING:
        value = given(producer.inputs[0])
    return source if value.is_graph_input() and value.dtype == ir.DataType.UINT8 else None


def readers(value: ir.Value) -> list[ir.Node]:
    """The nodes that take a value, through those that only move its numbers about."""
    found: list[ir.Node] = []
    for node, _ in value.uses():
        found += readers(node.outputs[0]) if node.op_type in _MOVING else [node]
    return found


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is a weight of the graph."""
    return value is not None and value.is_initializer()


def array_of(value: ir.Value | None) -> NDArray[Any]:
    """A weight's numbers."""
    tensor = ir.convenience.get_const_tensor(given(value))
    if tensor is None:
        raise TypeError("a value that is computed has no numbers")
    return tensor.numpy()


class Surgeon:
    """Puts nodes and weights into a graph in the place of others."""

    def __init__(self, model: ir.Model, mark: str = "q") -> None:
        # Marked, so that no name is used twice where a graph is changed again.
        self._graph, self._mark = model.graph, mark
        self._number = 0

    def constant(self, name: str, array: ArrayLike) -> ir.Value:
        """Adds a weight that is there."""
        return self.weight(name, ir.tensor(np.asarray(array, order="C"), name=name))

    def weight(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """Adds a weight that may be computed later."""
        value = ir.Value(name=name, const_value=tensor)
        value.shape, value.dtype = ir.Shape([*tensor.shape.numpy()]), tensor.dtype
        self._graph.register_initializer(value)
        return value

    def add(
        self,
        before: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Puts a node before another and returns its output."""
        self._number += 1
        name = f"{op_type}_{self._mark}{self._number}"
        node = ir.node(op_type, inputs, attributes, domain=domain, name=name)
        node.outputs[0].name = f"v_{name}"
        self._graph.insert_before(before, node)
        if domain:
            self._graph.opset_imports[domain] = 1
        return node.outputs[0]

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Gives all readers of one value another."""
        new.type, new.shape = old.type, old.shape
        if old.is_graph_output():
            new.name, old.name = old.name, None
        old.replace_all_uses_with(new, replace_graph_outputs=True)

    def prune(self) -> None:
        """Removes nodes and weights that nothing reads any more."""
        for node in reversed(list(self._graph)):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                self._graph.remove(node, safe=True)
        for name, value in list(self._graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del self._graph.initializers[name]


def given(value: ir.Value | None) -> ir.Value:
    """A value that its operator requires, so that it cannot lack."""
    if value is None:
        raise TypeError("a node lacks an input that its operator requires")
    return value


def _is_weight(value: ir.Value | None) -> bool:
    return _is_large(value) and len(given(value).shape or ()) == 2


def _is_large(value: ir.Value | None) -> bool:
    if not is_constant(value) or value is None or value.dtype != ir.DataType.FLOAT:
        return False
    return value.shape is not None and int(np.prod(value.shape.numpy())) >= _FEWEST


def _bias_add(node: ir.Node) -> ir.Node | None:
    """The Add of a constant row that is all that follows a product."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None
    add = uses[0].node
    if add.op_type != "Add":
        return None
    constants = [v for v in add.inputs if v is not None and is_constant(v) and v.shape is not None]
    return add if any(len(v.shape) == 1 for v in constants if v.shape is not None) else None

"""Graphs of fixed shapes and plain operators, as compilers for phones and NPUs take them.

What our graphs do for a CPU's sake is taken back, and operators that such compilers lack are
written in others. Quantizing is the compiler's own work.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnxscript.optimizer import fold_constants, remove_unused_nodes

from .precisions.plain import remove_prefixes, remove_spare_units
from .precisions.products import Surgeon, array_of, is_constant

# Larger tensors are weights, of which nothing is to be computed here.
_SMALL = 1 << 20
# Added to a logit: far below any, so that softmax gives exactly 0, and finite, also in half
# precision, as those that quantize a mask need it.
_HIDDEN = -1e4


def make_static(model: ir.Model, batch: int) -> None:
    """Fixes a graph's shapes and replaces ReduceL2, Not, CumSum and infinite masks, in place.

    Args:
        model: A tower of ours; its text has a fixed number of tokens.
        batch: How many inputs it takes, always.
    """
    remove_spare_units(model)
    remove_prefixes(model)
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = ir.Shape([batch, *list(value.shape or ())[1:]])
    surgeon = Surgeon(model, "static")
    for value in list(model.graph.initializers.values()):
        _bound(value)
    for node in list(model.graph):
        if (replace := _REPLACED.get(node.op_type)) is not None:
            surgeon.replace(node.outputs[0], replace(surgeon, node, model))
    surgeon.prune()
    fold_constants(
        model, onnx_shape_inference=True, input_size_limit=_SMALL, output_size_limit=_SMALL
    )
    remove_unused_nodes(model)
    for node in model.graph:
        node.metadata_props.clear()


def _bound(value: ir.Value) -> None:
    """Makes what hides a token finite."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes > _SMALL:
        return
    table = tensor.numpy()
    if np.isneginf(table).any():
        value.const_value = ir.tensor(np.maximum(table, np.float32(_HIDDEN)), name=value.name)


def _length(surgeon: Surgeon, node: ir.Node, model: ir.Model) -> ir.Value:
    """The square root of the sum of squares."""
    x, axes = node.inputs
    squares = surgeon.add(node, "Mul", [x, x])
    keep = {"keepdims": node.attributes.get_int("keepdims", 1)}
    return surgeon.add(node, "Sqrt", [surgeon.add(node, "ReduceSum", [squares, axes], keep)])


def _not(surgeon: Surgeon, node: ir.Node, model: ir.Model) -> ir.Value:
    """What equals 0."""
    x = surgeon.add(node, "Cast", [node.inputs[0]], {"to": ir.DataType.INT64})
    return surgeon.add(node, "Equal", [x, surgeon.constant(f"{node.name}.zero", np.int64(0))])


def _sum(surgeon: Surgeon, node: ir.Node, model: ir.Model) -> ir.Value:
    """The product with a triangle of ones, of numbers (N, T) that float32 holds exactly."""
    if not is_constant(node.inputs[1]) or array_of(node.inputs[1]).item() != 1:
        raise NotImplementedError("CumSum is of the tokens of a text")
    tokens = model.graph.inputs[0].shape.numpy()[1]  # type: ignore[union-attr]
    ones = np.triu(np.ones((tokens, tokens), np.float32))
    if node.attributes.get_int("reverse", 0):
        ones = ones.T
    x = surgeon.add(node, "Cast", [node.inputs[0]], {"to": ir.DataType.FLOAT})
    total = surgeon.add(node, "MatMul", [x, surgeon.constant(f"{node.name}.ones", ones)])
    return surgeon.add(node, "Cast", [total], {"to": ir.DataType.INT64})


_REPLACED: dict[str, Callable[[Surgeon, ir.Node, ir.Model], ir.Value]] = {
    "ReduceL2": _length,
    "Not": _not,
    "CumSum": _sum,
}

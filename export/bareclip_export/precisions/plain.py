"""Takes back what our float32 graphs do for a CPU's sake: other precisions do not gain by it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..graph import open_graph
from ..towers.layers import SPARE, spare_units
from ..towers.prefixes import PLACES, ROWS
from .products import Surgeon, array_of, find_products, given, is_constant, readers


def load_plain(graph: Path) -> ir.Model:
    """A float32 ``.onnx`` file, without units of zeros; any exporter's."""
    model = open_graph(graph)
    remove_spare_units(model)
    return model


def remove_spare_units(model: ir.Model) -> None:
    """Removes the units of zeros that layers have where ``spare_units`` adds some, in place."""
    removed = _remove_padding(model)
    for expand, contract in pairwise(find_products(model)):
        width = expand.shape[1]
        if not spare_units(width - SPARE) or contract.shape[0] != width:
            continue
        kept, spare = slice(width - SPARE), slice(width - SPARE, None)
        into, out_of, bias = expand.weight(), contract.weight(), expand.bias()
        if into[:, spare].any() or out_of[spare].any() or bias[spare].any():
            continue
        _cut(given(expand.node.inputs[1]), (slice(None), kept))
        _cut(given(contract.node.inputs[1]), (kept,))
        for value in expand.add.inputs if expand.add is not None else ():
            if is_constant(value):
                _cut(given(value), (kept,))
        removed = True
    if removed:
        _forget_shapes(model)


def _remove_padding(model: ir.Model) -> bool:
    """Removes what widens the input of products; whether there was any."""
    products = {product.node: product for product in find_products(model)}
    removed = False
    for pad in [node for node in model.graph if node.op_type == "Pad"]:
        nodes = readers(pad.outputs[0])
        fed = [products[node] for node in nodes if node in products]
        if (
            not is_constant(pad.inputs[1])
            or array_of(pad.inputs[1]).tolist() != [0, SPARE]
            or len(fed) < len(nodes)
            or any(product.weight()[-SPARE:].any() for product in fed)
        ):
            continue
        for product in fed:
            _cut(given(product.node.inputs[1]), (slice(-SPARE),))
        pad.outputs[0].replace_all_uses_with(given(pad.inputs[0]))
        removed = True
    Surgeon(model).prune()
    return removed


def remove_prefixes(model: ir.Model) -> None:
    """Gives every text all of its rows again, in place; shapes then follow from the input's.

    Without fixed shapes CUDA cannot capture a graph, and what it would save there is not
    measured.
    """
    values = {value.name: value for node in model.graph for value in node.outputs}
    if PLACES not in values:
        return
    rows, places = values[ROWS], values[PLACES]
    surgeon = Surgeon(model)
    first = next(iter(model.graph))
    size = surgeon.add(first, "Shape", [model.graph.inputs[0]])
    rest = surgeon.constant("rest", np.array([-1]))
    shape = surgeon.add(first, "Concat", [size, rest], {"axis": 0})
    for node in [node for node in model.graph if node.op_type == "Gather"]:
        x, index = given(node.inputs[0]), given(node.inputs[1])
        maker = index.producer()
        if index is places:
            new = x
        elif index is rows:
            new = surgeon.add(node, "Reshape", [x, shape])
        elif maker is not None and maker.op_type == "GatherND" and maker.inputs[0] is rows:
            spread = surgeon.add(node, "Reshape", [x, shape])
            new = surgeon.add(node, "GatherND", [spread, maker.inputs[1]], {"batch_dims": 1})
        else:
            continue
        node.outputs[0].replace_all_uses_with(new)
    surgeon.prune()
    _forget_shapes(model)


def _cut(value: ir.Value, part: tuple[slice, ...]) -> None:
    """Makes a weight a part of itself, when it is asked for."""
    whole = given(value).const_value
    if whole is None:
        raise TypeError(f"{value.name} has no numbers")
    shape = ir.Shape(np.empty(whole.shape.numpy(), np.bool_)[part].shape)

    def tensor() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(whole.numpy()[part]), name=value.name)

    value.const_value = ir.LazyTensor(tensor, ir.DataType.FLOAT, shape, name=value.name)
    value.shape = shape


def _forget_shapes(model: ir.Model) -> None:
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None

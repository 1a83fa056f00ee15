"""Half-precision graphs for CUDA, with fused attention.

float32 stays at the ends: pixels are normalised there, or meet the folded patch projection,
whose weights would be subnormal in half precision; and vectors are scaled to length 1 there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import ShapeInferencePass

from bareclip.inference.device import Device
from bareclip.inference.session import make_session
from bareclip.inference.threads import Threads

from ..errors import PrecisionError
from ..graph import open_graph, save
from .fuse import fuse
from .plain import load_plain, remove_prefixes
from .products import Surgeon, array_of, bytes_of, given, is_constant

LARGEST = float(np.finfo(np.float16).max)
# Other images than those that were tried may go further.
HEADROOM = 4
# exp() of it is zero, and unlike -inf it survives being added to.
MASKED = -30000.0


def write_fp16(source: Path, target: Path, batches: Sequence[NDArray[Any]], scratch: Path) -> None:
    """Writes a half-precision copy of a float32 graph.

    Args:
        source: The ``.onnx`` file.
        target: The file to write, weights beside it.
        batches: Input to look for overflow on, batch first.
        scratch: A folder with room for another copy of the graph.

    Raises:
        PrecisionError: A number of the tower is, or comes near to being, too large.
    """
    _check_range(source, batches, scratch)
    model = load_plain(source)
    remove_prefixes(model)
    model = typed(model)
    fuse(model)
    surgeon = Surgeon(model)
    kept = _kept(model)
    for node in list(model.graph):
        if node in kept:
            continue
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
        for place, value in enumerate(node.inputs):
            if value is not None and is_constant(value) and value.dtype == ir.DataType.FLOAT:
                node.replace_input_with(place, _half(surgeon, model, value))
    _cast_between(surgeon, model, kept)
    surgeon.prune()
    save(model, target)


def typed(model: ir.Model) -> ir.Model:
    """The model with the types of its values inferred."""
    return ShapeInferencePass()(model).model


def _kept(model: ir.Model) -> set[ir.Node]:
    """The nodes that stay float32.

    Those are what pixels go through until their positions are added, or up to the first
    convolution or layer normalisation; all that follows the last product; and what finds the
    end token: half precision does not hold token ids.
    """
    kept: set[ir.Node] = set()
    waiting = [n for n in model.graph if n.op_type == "Cast" and bytes_of(n.inputs[0]) is not None]
    while waiting:
        node = waiting.pop()
        if node.op_type in ("Conv", "LayerNormalization"):
            continue
        kept.add(node)
        if node.op_type != "Add":
            waiting += [use.node for value in node.outputs for use in value.uses()]
    places = [node for node in model.graph if node.op_type == "ArgMax"]
    kept |= {cast for node in places if (cast := node.inputs[0].producer()) is not None}  # type: ignore[union-attr]
    kept |= {*places}
    makers = [value.producer() for value in model.graph.outputs]
    while makers:
        maker = makers.pop()
        if maker is not None and maker.op_type != "MatMul" and maker not in kept:
            kept.add(maker)
            makers += [value.producer() for value in maker.inputs if value is not None]
    return kept


def _half(surgeon: Surgeon, model: ir.Model, value: ir.Value) -> ir.Value:
    name = f"{value.name}.fp16"
    if name in model.graph.initializers:
        return model.graph.initializers[name]

    def tensor() -> ir.TensorProtocol:
        return ir.tensor(np.maximum(array_of(value), MASKED).astype(np.float16), name=name)

    shape = value.shape
    if shape is None:
        raise TypeError(f"{value.name} has no shape")
    return surgeon.weight(name, ir.LazyTensor(tensor, ir.DataType.FLOAT16, shape, name=name))


def _cast_between(surgeon: Surgeon, model: ir.Model, kept: set[ir.Node]) -> None:
    """Puts a Cast wherever a float passes between float32 nodes and others."""
    made: dict[tuple[ir.Value, bool], ir.Value] = {}
    for node in list(model.graph):
        wide = node in kept
        for place, value in enumerate(node.inputs):
            maker = None if value is None else value.producer()
            if value is None or maker is None or value.dtype != ir.DataType.FLOAT:
                continue
            if (maker in kept) != wide:
                if (value, wide) not in made:
                    to = ir.DataType.FLOAT if wide else ir.DataType.FLOAT16
                    made[value, wide] = surgeon.add(node, "Cast", [value], {"to": to})
                node.replace_input_with(place, made[value, wide])
    for node in model.graph:
        for value in node.outputs:
            if node not in kept and node.op_type != "Cast" and value.dtype == ir.DataType.FLOAT:
                value.dtype = ir.DataType.FLOAT16


def _check_range(source: Path, batches: Sequence[NDArray[Any]], scratch: Path) -> None:
    """Looks at products, convolutions and what normalisations take: the rest is no larger."""
    model = open_graph(source)
    surgeon = Surgeon(model)
    nodes = list(model.graph)
    watched = {node.outputs[0] for node in nodes if node.op_type in ("MatMul", "Conv")}
    watched |= {given(node.inputs[0]) for node in nodes if node.op_type == "LayerNormalization"}
    values = [*watched]
    sizes = [surgeon.add(nodes[-1], "Abs", [value]) for value in values]
    model.graph.outputs[:] = [
        surgeon.add(nodes[-1], "ReduceMax", [size], {"keepdims": 0}) for size in sizes
    ]
    surgeon.prune()
    path = scratch / f"ranged-{source.name}"
    save(model, path)
    session = make_session(path, Device("cpu", required=True), Threads())
    name = session.get_inputs()[0].name
    for batch in batches:
        for value, largest in zip(values, session.run(None, {name: batch}), strict=True):
            if not largest * HEADROOM < LARGEST:
                raise PrecisionError(
                    f"{value.name} of {source} reaches {largest:.0f}, too near to what 16 bits "
                    f"hold ({LARGEST:.0f}); use fp32 on CUDA"
                )

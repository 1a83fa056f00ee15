"""Graphs become one: another's nodes and weights are taken into a graph that is being built."""

from collections.abc import Mapping

import onnx_ir as ir

from .errors import CheckpointError


def absorb(graph: ir.Graph, other: ir.Model, inputs: Mapping[str, ir.Value]) -> list[ir.Value]:
    """Takes a model's graph into another, behind what that has.

    Weights that lie in a file stay there. Names get the absorbed graph's in front, so that none
    is there twice.

    Args:
        graph: What takes it.
        other: The model, whose graph is empty afterwards.
        inputs: What its inputs become, by their names.

    Returns:
        What were its outputs.

    Raises:
        CheckpointError: The two are of different versions of ONNX's operators.
    """
    taken = other.graph
    for domain, version in taken.opset_imports.items():
        if graph.opset_imports.setdefault(domain, version) != version:
            raise CheckpointError(
                f"graph {taken.name} has opset {version}, where {graph.opset_imports[domain]} is "
                "wanted: export the checkpoint itself, whose graphs have that"
            )
    # A name may be a file's, of a ready-made graph, and may be missing.
    prefix = f"{taken.name or 'graph'}."
    outputs = list(taken.outputs)
    taken.outputs.clear()
    for value in list(taken.inputs):
        value.replace_all_uses_with(inputs[str(value.name)])
    taken.inputs.clear()
    for value in list(taken.initializers.values()):
        del taken.initializers[str(value.name)]
        value.name = f"{prefix}{value.name}"
        graph.register_initializer(value)
    nodes = list(taken)
    taken.remove(nodes)
    for node in nodes:
        node.name = f"{prefix}{node.name}"
        for value in node.outputs:
            if value.name:  # else it is left out
                value.name = f"{prefix}{value.name}"
            # Sizes by name: two graphs' "batch" need not be the same.
            if value.shape is not None and not value.shape.is_static():
                value.shape = None
        graph.append(node)
    return outputs

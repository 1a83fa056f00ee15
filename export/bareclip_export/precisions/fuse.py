"""Attention and activations as ONNX Runtime's fused operators.

On CUDA a whole attention becomes one kernel. The CPU gains something where products are fast and
there is no mask: nothing is transposed then, and logits stay in the cache.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from .products import CONTRIB, Surgeon, array_of, is_constant

_SPLIT, _SPLIT_KEY = [0, 2, 1, 3], [0, 2, 3, 1]


def fuse(model: ir.Model) -> None:
    """Replaces every attention and activation that it recognises, in place.

    Attention becomes ``MultiHeadAttention``, causal where its mask is, with the mask as a
    bias where it is another; x * sigmoid(alpha x) becomes ``QuickGelu``, and the gelu of
    erf ``Gelu``.
    """
    surgeon = Surgeon(model)
    for node in list(model.graph):
        if node.op_type == "Softmax":
            found = _attention(node)
            if found is not None:
                _replace_attention(surgeon, found)
        elif node.op_type == "Sigmoid":
            _replace_quick_gelu(surgeon, node)
        elif node.op_type == "Erf":
            _replace_gelu(surgeon, node)
    surgeon.prune()


def fuse_unmasked_attention(model: ir.Model) -> None:
    """Replaces every attention without a mask by ``MultiHeadAttention``, in place."""
    surgeon = Surgeon(model, mark="f")
    for node in list(model.graph):
        found = _attention(node) if node.op_type == "Softmax" else None
        if found is not None and found.mask is None:
            _replace_attention(surgeon, found)


@dataclass(frozen=True)
class _Attention:
    """(N, T, W) queries, keys and values, the mask added to the logits, and the result."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    mask: ir.Value | None
    heads: int
    result: ir.Value


def _attention(softmax: ir.Node) -> _Attention | None:
    logits, mask = softmax.inputs[0], None
    if (add := _maker(logits, "Add")) is not None:
        logits, mask = add.inputs
    product, mixing = _maker(logits, "MatMul"), _only_reader(softmax, "MatMul")
    if product is None or mixing is None:
        return None
    merge = _only_reader(mixing, "Transpose")
    reshape = None if merge is None else _only_reader(merge, "Reshape")
    query = _unsplit(product.inputs[0], _SPLIT)
    key = _unsplit(product.inputs[1], _SPLIT_KEY)
    value = _unsplit(mixing.inputs[1], _SPLIT)
    if reshape is None or query is None or key is None or value is None:
        return None
    return _Attention(query[0], key[0], value[0], mask, query[1], reshape.outputs[0])


def _replace_attention(surgeon: Surgeon, found: _Attention) -> None:
    node = found.result.producer()
    if node is None:
        return
    attributes: dict[str, Any] = {"num_heads": found.heads, "scale": 1.0}
    bias = found.mask
    if bias is not None and _is_causal(bias):
        attributes["unidirectional"], bias = 1, None
    inputs = [found.query, found.key, found.value, None, None, bias]
    while inputs[-1] is None:
        inputs.pop()
    fused = surgeon.add(node, "MultiHeadAttention", inputs, attributes, CONTRIB)
    surgeon.replace(found.result, fused)


def _replace_quick_gelu(surgeon: Surgeon, sigmoid: ir.Node) -> None:
    """X * sigmoid(alpha x), or x * sigmoid(x)."""
    x, alpha, product = sigmoid.inputs[0], 1.0, _only_reader(sigmoid, "Mul")
    if product is None:
        return
    scaled = _maker(x, "Mul")
    if x not in product.inputs and scaled is not None and _is_scalar(scaled.inputs[1]):
        x, alpha = scaled.inputs[0], float(array_of(scaled.inputs[1]))
    if x not in product.inputs:
        return
    fused = surgeon.add(product, "QuickGelu", [x], {"alpha": alpha}, CONTRIB)
    surgeon.replace(product.outputs[0], fused)


def _replace_gelu(surgeon: Surgeon, erf: ir.Node) -> None:
    """X * (erf(x / sqrt 2) + 1) * 0.5."""
    scaled, plus = _maker(erf.inputs[0], "Mul"), _only_reader(erf, "Add")
    product = None if plus is None else _only_reader(plus, "Mul")
    half = None if product is None else _only_reader(product, "Mul")
    if scaled is None or product is None or half is None or scaled.inputs[0] not in product.inputs:
        return
    fused = surgeon.add(half, "Gelu", [scaled.inputs[0]], domain=CONTRIB)
    surgeon.replace(half.outputs[0], fused)


def _unsplit(value: ir.Value | None, perm: list[int]) -> tuple[ir.Value, int] | None:
    """What was cut into heads to give ``value``, and into how many."""
    transpose = _maker(value, "Transpose")
    if transpose is None or list(transpose.attributes.get_ints("perm") or ()) != perm:
        return None
    reshape = _maker(transpose.inputs[0], "Reshape")
    if reshape is None or reshape.inputs[0] is None or not is_constant(reshape.inputs[1]):
        return None
    shape = array_of(reshape.inputs[1]).tolist()
    return (reshape.inputs[0], shape[2]) if len(shape) == 4 else None


def _is_causal(mask: ir.Value) -> bool:
    """Whether a mask is cut from the upper left of a constant causal one."""
    value: ir.Value | None = mask
    while (cut := _maker(value, "Slice")) is not None:
        if not is_constant(cut.inputs[1]) or array_of(cut.inputs[1]).any():
            return False
        value = cut.inputs[0]
    if value is None or not is_constant(value):
        return False
    table = array_of(value)
    return table.ndim == 2 and bool((np.isneginf(table) == np.triu(np.ones(table.shape), 1)).all())


def _maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _only_reader(node: ir.Node, op_type: str) -> ir.Node | None:
    readers = [use.node for use in node.outputs[0].uses()]
    return readers[0] if len(readers) == 1 and readers[0].op_type == op_type else None


def _is_scalar(value: ir.Value | None) -> bool:
    return is_constant(value) and value is not None and array_of(value).size == 1

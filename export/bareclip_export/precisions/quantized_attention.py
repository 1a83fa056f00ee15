"""Attention whose queries, keys and values are static products, as one operator.

ONNX Runtime's QAttention writes what it multiplies where its heads are read, so that nothing is
transposed, and takes heads one by one, so that their logits stay in the cache.
"""

import numpy as np
import onnx_ir as ir

from .fuse import Attention, attention_of
from .products import CONTRIB, Surgeon, array_of, given

# Inputs of MatMulIntegerToFloat.
_WEIGHT, _INPUT_SCALE, _SCALES, _INPUT_ZERO, _BIAS = 1, 2, 3, 4, 6


def fuse_attention(model: ir.Model, surgeon: Surgeon) -> None:
    """Replaces every attention without a mask that is made of static products, in place."""
    for node in list(model.graph):
        found = attention_of(node) if node.op_type == "Softmax" else None
        if found is not None and found.mask is None:
            _fuse(surgeon, found)


def _fuse(surgeon: Surgeon, found: Attention) -> None:
    makers = [value.producer() for value in (found.query, found.key, found.value)]
    products = [m for m in makers if m is not None and m.op_type == "MatMulIntegerToFloat"]
    end = found.result.producer()
    if end is None or len(products) < 3 or len({product.inputs[0] for product in products}) > 1:
        return
    query, name = products[0], str(given(products[0].inputs[_WEIGHT]).name)
    widths = [array_of(product.inputs[_BIAS]).size for product in products]
    if len(set(widths)) > 1:
        return
    # It divides logits by this, which our queries are already.
    undone = np.repeat([np.sqrt(widths[0] / found.heads), 1, 1], widths)
    weight, scales, bias = (
        np.concatenate([array_of(product.inputs[place]) for product in products], axis=-1)
        for place in (_WEIGHT, _SCALES, _BIAS)
    )
    inputs = [
        query.inputs[0],
        surgeon.constant(f"{name}.attention", weight),
        surgeon.constant(f"{name}.attention.bias", (bias * undone).astype(np.float32)),
        query.inputs[_INPUT_SCALE],
        surgeon.constant(f"{name}.attention.scales", (scales * undone).astype(np.float32)),
        None,
        query.inputs[_INPUT_ZERO],
        surgeon.constant(f"{name}.attention.zero", np.asarray(np.int8(0))),
    ]
    fused = surgeon.add(end, "QAttention", inputs, {"num_heads": found.heads}, CONTRIB)
    surgeon.replace(found.result, fused)

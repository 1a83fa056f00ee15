"""SmoothQuant: outlier channels move from activations into weights, exactly.

Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models" (arXiv 2211.10438), equation 4 with its default strength of one half. Done
where a layer normalisation feeds products, since its scale and bias absorb the factors.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .observe import Observation
from .products import Product, Surgeon, array_of, given, is_constant, readers

STRENGTH = 0.5


def smooth(
    model: ir.Model, products: list[Product], observed: dict[str, Observation]
) -> dict[str, Observation]:
    """Divides what layer normalisations give, by channel, and multiplies the weights it meets.

    Args:
        model: Changed in place; it answers as before.
        products: All of the model's.
        observed: What came to each.

    Returns:
        What would come to each now.
    """
    surgeon = Surgeon(model)
    by_node = {product.node: product for product in products}
    observed = dict(observed)
    for norm in list(model.graph):
        if norm.op_type != "LayerNormalization" or not all(map(is_constant, norm.inputs[1:])):
            continue
        fed = [by_node.get(node) for node in readers(norm.outputs[0])]
        several = [product for product in fed if product is not None]
        if not several or len(several) < len(fed):
            continue
        # A product may also join what was normalised in several places.
        if any(product.shape[0] != array_of(norm.inputs[1]).size for product in several):
            continue
        factor = _factor(several, observed)
        for place, value in enumerate(norm.inputs[1:], start=1):
            scaled = surgeon.constant(f"{given(value).name}.smooth", array_of(value) / factor)
            norm.replace_input_with(place, scaled)
        for product in several:
            product.scale_rows(surgeon, factor)
            observed[product.name] = observed[product.name].divided(factor)
    return observed


def _factor(products: list[Product], observed: dict[str, Observation]) -> NDArray[np.float32]:
    """(K,), the same for all products of one normalisation."""
    seen = [observed[product.name] for product in products]
    activation = np.max([np.maximum(np.abs(o.low), np.abs(o.high)) for o in seen], axis=0)
    weight = np.max([np.abs(product.weight()).max(axis=1) for product in products], axis=0)
    factor = activation**STRENGTH / np.maximum(weight, 1e-5) ** (1 - STRENGTH)
    return np.where(activation > 1e-5, np.maximum(factor, 1e-5), 1).astype(np.float32)

"""8-bit graphs for the CPU.

A product is *static* where it is u8 x s8 with the activation's scale fixed by calibration,
and *weight-only* elsewhere: 8-bit weights in blocks, activations float at either end. In
neither does a vector depend on its batch, as it does with dynamic quantization, whose scale
is taken over all that is embedded together.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bareclip.bundle import ImageRecipe

from ..graph import save
from . import rounding
from .fuse import fuse_unmasked_attention
from .observe import Observation
from .plain import load_plain
from .products import (
    CONTRIB,
    Convolution,
    Product,
    Surgeon,
    Table,
    find_convolutions,
    find_products,
    find_tables,
)
from .smooth import smooth

Floats = NDArray[np.float32]

# ONNX Runtime's MatMulNBits then multiplies 8-bit integers, with a scale for each block of
# each row of the activations: no scale is shared between rows.
INTEGER_ACTIVATIONS = 4
BLOCK = 64

# What was rounded to 8 bits, and its scale and zero point.
_Rounded = tuple[ir.Value, list[ir.Value]]


def write_int8(
    source: Path,
    target: Path,
    image: ImageRecipe | None,
    observed: dict[str, Observation],
    static: Collection[str],
    smoothed: bool = True,
) -> None:
    """Writes an 8-bit copy of a float32 graph.

    Args:
        source: The ``.onnx`` file.
        target: The file to write, weights beside it.
        image: The vision tower's recipe; None for the text tower.
        observed: What came to the products in calibration; empty without.
        static: Names of the products to make static; the others are weight-only.
        smoothed: Whether outlier channels move into the weights first.
    """
    model = load_plain(source)
    products = find_products(model)
    surgeon = Surgeon(model)
    if smoothed and static:
        observed = smooth(model, products, observed)
    rounded: dict[ir.Value, _Rounded] = {}
    for product in products:
        pixels = product.bytes()
        if image is not None and pixels is not None:
            product_of_bytes(surgeon, product, pixels, image)
        elif product.name in static:
            _static(surgeon, product, observed[product.name], rounded)
        else:
            weight_only(surgeon, product, 8, BLOCK, observed.get(product.name))
    fuse_unmasked_attention(model)
    for convolution in find_convolutions(model):
        store_filters(surgeon, convolution)
    for table in find_tables(model):
        _rounded_table(surgeon, table)
    surgeon.prune()
    save(model, target)


def weight_only(
    surgeon: Surgeon, product: Product, bits: int, most: int, seen: Observation | None
) -> None:
    """Replaces a product by one with weights in blocks.

    Args:
        surgeon: Of the graph.
        product: To be replaced.
        bits: 4 or 8.
        most: Largest block.
        seen: What came to it, where that is known: what rounding the weights shifts on the
            average goes into the bias.
    """
    weight, name = product.weight(), product.name
    rows, columns = weight.shape
    blocks = rounding.in_blocks(weight, bits, rounding.largest_block(rows, most))
    output = surgeon.add(
        product.node,
        "MatMulNBits",
        [
            product.input,
            surgeon.constant(f"{name}.int{bits}", blocks.packed),
            surgeon.constant(f"{name}.scales", blocks.scales.reshape(-1)),
            surgeon.constant(f"{name}.zero_points", blocks.zero_points.reshape(-1)),
        ],
        {
            "K": rows,
            "N": columns,
            "bits": bits,
            "block_size": blocks.block,
            "accuracy_level": INTEGER_ACTIVATIONS,
        },
        CONTRIB,
    )
    if product.add is not None:
        bias = product.bias()
        if seen is not None:
            bias = bias + seen.mean @ (weight - blocks.weight())
        added = surgeon.constant(f"{name}.bias", bias.astype(np.float32))
        output = surgeon.add(product.add, "Add", [output, added])
    surgeon.replace(product.output, output)


def product_of_bytes(
    surgeon: Surgeon, product: Product, pixels: ir.Value, image: ImageRecipe
) -> None:
    """Makes a product of uint8 pixels one of integers: they need no rounding.

    Args:
        surgeon: Of the graph.
        product: Of a vision tower.
        pixels: Its ``bytes()``.
        image: Says what pixels are on the average.
    """
    mean = np.resize(np.array(image.mean) / image.scale, product.shape[0]).astype(np.float32)
    one = surgeon.constant(f"{product.name}.input_scale", np.asarray(np.float32(1)))
    zero = surgeon.constant(f"{product.name}.input_zero_point", np.asarray(np.uint8(0)))
    _integer_product(surgeon, product, pixels, [one, zero], mean)


def input_scale(surgeon: Surgeon, name: str, seen: Observation) -> list[ir.Value]:
    """Scale and zero point that map what was seen to 0..255."""
    low, high = min(float(seen.low.min()), 0.0), max(float(seen.high.max()), 0.0)
    scale = np.float32((high - low) / 255 or 1.0)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    return [
        surgeon.constant(f"{name}.input_scale", np.asarray(scale)),
        surgeon.constant(f"{name}.input_zero_point", np.asarray(zero)),
    ]


def _static(
    surgeon: Surgeon, product: Product, seen: Observation, rounded: dict[ir.Value, _Rounded]
) -> None:
    if product.input not in rounded:  # queries, keys and values have the same one
        parameters = input_scale(surgeon, product.name, seen)
        quantized = surgeon.add(product.node, "QuantizeLinear", [product.input, *parameters])
        rounded[product.input] = quantized, parameters
    _integer_product(surgeon, product, *rounded[product.input], seen.mean)


def _integer_product(
    surgeon: Surgeon,
    product: Product,
    quantized: ir.Value,
    parameters: list[ir.Value],
    mean: Floats,
) -> None:
    """(quantized - zero point) @ weight * scale + bias, multiplied in integers."""
    weight, name = product.weight(), product.name
    scale, zero = parameters
    channels = rounding.in_channels(weight)
    # What rounding the weights shifts on the average goes back into the bias.
    bias = product.bias() + mean @ (weight - channels.weight())
    output = surgeon.add(
        product.add or product.node,
        "MatMulIntegerToFloat",
        [
            quantized,
            surgeon.constant(f"{name}.int8", channels.integers),
            scale,
            surgeon.constant(f"{name}.scales", channels.scales),
            zero,
            None,
            surgeon.constant(f"{name}.bias", bias.astype(np.float32)),
        ],
        domain=CONTRIB,
    )
    surgeon.replace(product.output, output)


def store_filters(surgeon: Surgeon, convolution: Convolution) -> None:
    """Stores a convolution's filters in 8 bits, each with a scale.

    ONNX Runtime makes floats of them once, as it loads the graph: less on disk, as fast as before.
    Its convolutions of integers on the CPU take no weights in int8 without rounding what comes out.
    """
    filters, node = convolution.filters(), convolution.node
    integers, scales = rounding.in_rows(filters.reshape(len(filters), -1))
    numbers = surgeon.add(
        node,
        "Cast",
        [surgeon.constant(f"{convolution.name}.int8", integers.reshape(filters.shape))],
        {"to": ir.DataType.FLOAT},
    )
    each = surgeon.constant(
        f"{convolution.name}.scales", scales.reshape(-1, *[1] * (filters.ndim - 1))
    )
    node.replace_input_with(1, surgeon.add(node, "Mul", [numbers, each]))


def _rounded_table(surgeon: Surgeon, table: Table) -> None:
    """A table of int8 rows, each with a scale."""
    integers, scales = rounding.in_rows(table.rows())
    numbers = surgeon.add(
        table.node, "Cast", [table.look_up(surgeon, "int8", integers)], {"to": ir.DataType.FLOAT}
    )
    scale = table.look_up(surgeon, "scales", scales)
    surgeon.replace(table.node.outputs[0], surgeon.add(table.node, "Mul", [numbers, scale]))

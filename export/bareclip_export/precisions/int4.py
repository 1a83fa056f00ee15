"""4-bit graphs: the smallest files. Weights in blocks, activations float at either end."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike

from bareclip.bundle import ImageRecipe

from ..graph import save
from . import int8, rounding
from .int8 import product_of_bytes, store_filters, weight_only
from .observe import Observation
from .plain import load_plain
from .products import Surgeon, Table, find_convolutions, find_products, find_tables

BLOCK = 32


def write_int4(
    source: Path,
    target: Path,
    image: ImageRecipe | None,
    observed: dict[str, Observation],
    pooled: Collection[str],
) -> None:
    """Writes a 4-bit copy of a float32 graph.

    Convolutions, products of pixels and of a single pooled token have 8-bit weights. The last are
    few, what they round reaches the vector as it is, and without VNNI ONNX Runtime adds up a single
    row of 4 bits in another order than several, so that a vector would depend on its batch.

    Args:
        source: The ``.onnx`` file.
        target: The file to write, weights beside it.
        image: The vision tower's recipe; None for the text tower.
        observed: What came to the products in calibration; empty without.
        pooled: Names of the products that see one token an input.
    """
    model = load_plain(source)
    surgeon = Surgeon(model)
    for product in find_products(model):
        pixels = product.bytes()
        if image is not None and pixels is not None:
            product_of_bytes(surgeon, product, pixels, image)
        elif product.name in pooled:
            weight_only(surgeon, product, 8, int8.BLOCK, observed.get(product.name))
        else:
            weight_only(surgeon, product, 4, BLOCK, observed.get(product.name))
    for convolution in find_convolutions(model):
        store_filters(surgeon, convolution)
    for table in find_tables(model):
        _table(surgeon, table)
    surgeon.prune()
    save(model, target)


def _table(surgeon: Surgeon, table: Table) -> None:
    """A table of rows in blocks; only the rows that are looked up are unpacked.

    A byte holds a number of the row's first half low, and one of its second half high.
    """
    rows, node = table.rows(), table.node
    count, width = rows.shape
    block = rounding.largest_block(width, BLOCK)
    if width % block:
        block = width
    numbers, scales, zeros = rounding.fit(rows.reshape(-1, block), 4)
    halves = np.pad(numbers.reshape(count, width), [(0, 0), (0, width % 2)]).reshape(count, 2, -1)

    def add(op_type: str, *inputs: ir.Value, **attributes: int | str) -> ir.Value:
        return surgeon.add(node, op_type, inputs, attributes)

    def constant(name: str, value: ArrayLike) -> ir.Value:
        return surgeon.constant(f"{table.name}.{name}", value)

    pairs = table.look_up(surgeon, "int4", halves[:, 0] | (halves[:, 1] << 4))
    # Shifts rather than a mask: opset 14, as ready-made graphs have it, has no BitwiseAnd.
    four = constant("shift", np.uint8(4))
    low = add("BitShift", add("BitShift", pairs, four, direction="LEFT"), four, direction="RIGHT")
    high = add("BitShift", pairs, four, direction="RIGHT")
    joined = add("Concat", low, high, axis=-1)
    if width % 2:
        ends = [constant(name, [place]) for name, place in (("start", 0), ("end", width))]
        joined = add("Slice", joined, *ends, constant("axis", [-1]))
    whole = add("Cast", joined, to=int(ir.DataType.FLOAT))
    grouped = add("Reshape", whole, constant("blocks", [0, 0, -1, block]))
    zero = table.look_up(surgeon, "zero_points", zeros.reshape(count, -1, 1))
    centred = add("Sub", grouped, add("Cast", zero, to=int(ir.DataType.FLOAT)))
    scaled = add("Mul", centred, table.look_up(surgeon, "scales", scales.reshape(count, -1, 1)))
    surgeon.replace(node.outputs[0], add("Reshape", scaled, constant("row", [0, 0, width])))

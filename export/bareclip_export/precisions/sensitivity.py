"""Which products bear activations in 8 bits, measured at the tower's output.

One graph holds every product's input twice, as it is and rounded as a static product would
round it, and a switch a product chooses; so each product's harm is seen alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bareclip.inference.device import Device
from bareclip.inference.session import make_session
from bareclip.inference.threads import Threads

from ..graph import save
from .int8 import input_scale
from .observe import Observation
from .plain import load_plain
from .products import Product, Surgeon, find_products
from .smooth import smooth

# Mean loss of cosine that all static products of a tower may cause together.
ALLOWANCE = 0.005

_SWITCHES = "switches"


def choose_static(
    graph: Path,
    batches: Sequence[NDArray[Any]],
    observed: dict[str, Observation],
    scratch: Path,
    smoothed: bool = True,
) -> list[str]:
    """Names the products to make static; the others had better be weight-only.

    Products that see one pooled token are left out, since there is no time to gain. Where all
    others together lose no more than ``ALLOWANCE``, they are it, which two runs of the tower show.
    Else each is tried alone, and those that lose most for the work they save are left out first,
    until the sum of what the rest lose is within it.

    Args:
        graph: A float32 ``.onnx`` file.
        batches: Input to measure on, batch first.
        observed: What came to the products in calibration.
        scratch: A folder with room for another copy of the graph.
        smoothed: As ``write_int8`` will be told.

    Returns:
        Names of their weights.
    """
    model = load_plain(graph)
    products = find_products(model)
    if smoothed:
        observed = smooth(model, products, observed)
    tried = [p for p in products if not observed[p.name].pooled and p.bytes() is None]
    surgeon = Surgeon(model)
    switches = ir.Value(
        name=_SWITCHES, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([len(tried)])
    )
    model.graph.inputs.append(switches)
    for place, product in enumerate(tried):
        _add_switch(surgeon, product, observed[product.name], switches, place)
    surgeon.prune()
    path = scratch / f"switched-{graph.name}"
    save(model, path)
    session = make_session(path, Device("cpu", required=True), Threads())
    [given, _] = session.get_inputs()

    def embed(on: NDArray[np.bool_]) -> NDArray[np.float32]:
        feeds = [{given.name: batch, _SWITCHES: on} for batch in batches]
        return np.concatenate([session.run(None, feed)[0] for feed in feeds])

    each = np.eye(len(tried), dtype=np.bool_)
    wanted = embed(np.zeros(len(tried), np.bool_))

    def loss(on: NDArray[np.bool_]) -> float:
        return float(1 - (embed(on) * wanted).sum(axis=1).mean())

    if loss(np.ones(len(tried), np.bool_)) <= ALLOWANCE:
        return [product.name for product in tried]
    lost = {product.name: loss(on) for product, on in zip(tried, each, strict=True)}
    sizes = {product.name: product.shape[0] * product.shape[1] for product in tried}
    chosen = sorted(lost, key=lambda name: lost[name] / sizes[name])
    while chosen and sum(lost[name] for name in chosen) > ALLOWANCE:
        chosen.pop()
    return chosen


def _add_switch(
    surgeon: Surgeon, product: Product, seen: Observation, switches: ir.Value, place: int
) -> None:
    plain, node, name = product.input, product.node, product.name
    parameters = input_scale(surgeon, name, seen)
    quantized = surgeon.add(node, "QuantizeLinear", [plain, *parameters])
    rounded = surgeon.add(node, "DequantizeLinear", [quantized, *parameters])
    index = surgeon.constant(f"{name}.switch", np.asarray(np.int64(place)))
    switch = surgeon.add(node, "Gather", [switches, index])
    node.replace_input_with(0, surgeon.add(node, "Where", [switch, rounded, plain]))

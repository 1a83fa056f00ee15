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
) -> dict[str, float]:
    """Names the products to make static; the others had better be weight-only.

    Products that see one pooled token are left out, since there is no time to gain. Of the
    others those that lose most for the work they save are left out first, until the sum of
    what the rest lose is within ``ALLOWANCE``.

    Args:
        graph: A float32 ``.onnx`` file.
        batches: Input to measure on, batch first.
        observed: What came to the products in calibration.
        scratch: A folder with room for another copy of the graph.
        smoothed: As ``write_int8`` will be told.

    Returns:
        weight's name -> the mean cosine it loses, alone, for the chosen products.
    """
    lost = _losses(graph, batches, observed, scratch, smoothed)
    sizes = {p.name: p.shape[0] * p.shape[1] for p in find_products(load_plain(graph))}
    chosen = sorted(lost, key=lambda name: lost[name] / sizes[name])
    while chosen and sum(lost[name] for name in chosen) > ALLOWANCE:
        chosen.pop()
    return {name: lost[name] for name in chosen}


def _losses(
    graph: Path,
    batches: Sequence[NDArray[Any]],
    observed: dict[str, Observation],
    scratch: Path,
    smoothed: bool,
) -> dict[str, float]:
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

    def embed(on: int | None) -> NDArray[np.float32]:
        state = np.arange(len(tried)) == (-1 if on is None else on)
        feeds = [{given.name: batch, _SWITCHES: state} for batch in batches]
        return np.concatenate([session.run(None, feed)[0] for feed in feeds])

    wanted = embed(None)
    return {
        product.name: float(1 - (embed(place) * wanted).sum(axis=1).mean())
        for place, product in enumerate(tried)
    }


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

"""What flows into a graph's products while it embeds real input."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bareclip.inference.device import Device
from bareclip.inference.session import make_session
from bareclip.inference.threads import Threads

from ..graph import save
from .plain import load_plain
from .products import Surgeon, find_products

Floats = NDArray[np.float32]


@dataclass
class Observation:
    """The values that came to one product, by channel of its input.

    Attributes:
        low, high: (K,) smallest and largest.
        total: (K,) their sum.
        rows: How many rows came.
        inputs: Of how many images or texts.
    """

    low: Floats
    high: Floats
    total: NDArray[np.float64]
    rows: int
    inputs: int

    @property
    def mean(self) -> Floats:
        """(K,)."""
        return (self.total / self.rows).astype(np.float32)

    @property
    def pooled(self) -> bool:
        """Whether one row per image or text is all that comes."""
        return self.rows == self.inputs

    def divided(self, factor: Floats) -> "Observation":
        """What would be observed of an input divided by (K,) positive factors."""
        low, high, total = self.low / factor, self.high / factor, self.total / factor
        return Observation(low, high, total, self.rows, self.inputs)

    def add(self, values: Floats, inputs: int) -> None:
        """Counts in (.., K) more, of so many images or texts."""
        rows = values.reshape(-1, values.shape[-1])
        self.low = np.minimum(self.low, rows.min(axis=0))
        self.high = np.maximum(self.high, rows.max(axis=0))
        self.total += rows.sum(axis=0, dtype=np.float64)
        self.rows += len(rows)
        self.inputs += inputs


def observe(graph: Path, batches: Sequence[NDArray[Any]], scratch: Path) -> dict[str, Observation]:
    """Runs a graph and watches the input of each of its products.

    Args:
        graph: A float32 ``.onnx`` file.
        batches: Input, batch first.
        scratch: A folder with room for another copy of the graph.

    Returns:
        An observation for each product, by its weight's name.
    """
    model = load_plain(graph)
    # Read now: what is pruned below, the products among it, loses its inputs.
    inputs = {product.name: product.input for product in find_products(model)}
    watched = list(dict.fromkeys(inputs.values()))
    model.graph.outputs[:] = watched
    Surgeon(model).prune()
    path = scratch / f"observed-{graph.name}"
    save(model, path)
    session = make_session(path, Device("cpu", required=True), Threads())
    found: dict[ir.Value, Observation] = {}
    for batch in batches:
        arrays = session.run(None, {session.get_inputs()[0].name: batch})
        for value, array in zip(watched, arrays, strict=True):
            if value not in found:
                width = array.shape[-1]
                none = np.full(width, np.inf, np.float32)
                found[value] = Observation(none, -none, np.zeros(width), 0, 0)
            found[value].add(array, len(batch))
    return {name: found[value] for name, value in inputs.items()}

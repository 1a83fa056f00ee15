"""How near a vision tower comes to the matrix products it is made of.

    python benchmarks/roofline.py BUNDLE --batch 8 --json roofline.json

Each product that the tower executes, attention's too, is also timed alone, in a graph that holds
nothing else, on operands of the same shapes: what this machine's ONNX Runtime can do at best. The
sum of those times over the tower's own is how near it comes. The two are timed in turns.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bareclip.bundle import Bundle
from bareclip.inference.device import Device
from bareclip.inference.session import Tower, make_session
from bareclip.inference.threads import Threads
from bareclip.measure.samples import drawn_pixels
from bareclip.measure.speed import machine
from bareclip_export.graph import save
from bareclip_export.precisions.products import Surgeon

Shape = tuple[tuple[int, ...], tuple[int, ...]]
CPU = Device("cpu", required=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = Bundle.read(arguments.bundle)
    pixels = drawn_pixels(bundle.image.size, arguments.batch)
    base = bundle.folder / bundle.tower("fp32", "vision").graph
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        scratch = Path(folder)
        shapes = executed(base, pixels, scratch)
        alone = {shape: Product(shape, scratch) for shape in shapes}
        precisions = [p for p in bundle.precisions if p != "fp16"]
        graphs = {p: bundle.folder / bundle.tower(p, "vision").graph for p in precisions}
        towers = {p: Tower.load(graph, CPU, Threads()) for p, graph in graphs.items()}
        products: list[float] = []
        whole: dict[str, list[float]] = {precision: [] for precision in precisions}
        for turn in range(arguments.rounds + 2):
            once = sum(alone[shape].seconds() * count for shape, count in shapes.items())
            took = {precision: _timed(towers[precision], pixels) for precision in precisions}
            if turn >= 2:  # the first two warm up
                products.append(once)
                for precision in precisions:
                    whole[precision].append(took[precision])
    flops = sum(flops_of(shape) * count for shape, count in shapes.items())
    report = {
        "machine": machine(),
        "bundle": bundle.name,
        "batch": arguments.batch,
        "gflop_an_image": flops / arguments.batch / 1e9,
        "products_gflops": flops / median(products) / 1e9,
        "precisions": {
            precision: {
                "ms_an_image": 1000 * median(times) / arguments.batch,
                "gflops": flops / median(times) / 1e9,
                "of_products": median(p / t for p, t in zip(products, times, strict=True)),
            }
            for precision, times in whole.items()
        },
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        f"{report['gflop_an_image']:.2f} GFLOP an image in float32 products, which alone run at "
        f"{report['products_gflops']:.0f} GFLOP/s.",
        "",
        "| precision | ms an image | GFLOP/s | of its float32 products alone |",
        "| --- | --- | --- | --- |",
    ]
    for precision, case in report["precisions"].items():
        lines.append(
            f"| {precision} | {case['ms_an_image']:.2f} | {case['gflops']:.0f} | "
            f"{case['of_products']:.0%} |"
        )
    return "\n".join(lines)


def executed(graph: Path, pixels: NDArray[np.uint8], scratch: Path) -> Counter[Shape]:
    """The shapes of both operands of every product that the tower executes, counted."""
    model = ir.load(graph)
    nodes = [node for node in model.graph if node.op_type == "MatMul"]
    weights = {
        node.name: value.shape.numpy()
        for node in nodes
        if (value := node.inputs[1]) is not None and value.is_initializer() and value.shape
    }
    wanted = [node.inputs[0] for node in nodes]
    wanted += [node.inputs[1] for node in nodes if node.name not in weights]
    values = list(dict.fromkeys(value for value in wanted if value is not None))
    names = [node.name for node in nodes]
    operands = [node.inputs for node in nodes]
    model.graph.outputs[:] = values
    Surgeon(model).prune()
    save(model, scratch / "operands.onnx")
    session = make_session(scratch / "operands.onnx", CPU, Threads())
    arrays = session.run(None, {session.get_inputs()[0].name: pixels})
    shape = {value: array.shape for value, array in zip(values, arrays, strict=True)}
    return Counter(
        (shape[left], weights[name] if name in weights else shape[right])
        for name, (left, right) in zip(names, operands, strict=True)
    )


class Product:
    """One matrix product, alone in a graph."""

    def __init__(self, shape: Shape, scratch: Path) -> None:
        path = scratch / f"product-{'x'.join(map(str, (*shape[0], 0, *shape[1])))}.onnx"
        self._feeds = write_product(shape, path)
        self._session = make_session(path, CPU, Threads())

    def seconds(self) -> float:
        """Of one run."""
        started = time.perf_counter()
        self._session.run(None, self._feeds)
        return time.perf_counter() - started


def write_product(
    shape: Shape, path: Path, dtype: type[np.floating[Any]] = np.float32
) -> dict[str, NDArray[Any]]:
    """Writes a graph of one product.

    Args:
        shape: Of both operands. A matrix on the right is a weight, else it is fed too.
        path: The ``.onnx`` file.
        dtype: float32 or float16.

    Returns:
        What to feed it.
    """
    kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
    rng = np.random.default_rng(0)
    feeds = {}

    def operand(name: str, sizes: tuple[int, ...]) -> ir.Value:
        feeds[name] = rng.standard_normal(sizes).astype(dtype)
        graph.inputs.append(ir.Value(name=name, type=kind, shape=ir.Shape(sizes)))
        return graph.inputs[-1]

    graph = ir.Graph([], [], nodes=[], opset_imports={"": 18}, name="product")
    model = ir.Model(graph, ir_version=8)
    left, right = shape
    first = operand("left", left)
    if len(right) == 2:  # a weight, which ONNX Runtime packs when it loads
        second = Surgeon(model).constant("right", rng.standard_normal(right).astype(dtype))
    else:
        second = operand("right", right)
    node = ir.node("MatMul", [first, second])
    graph.append(node)
    node.outputs[0].name, node.outputs[0].type = "product", kind
    graph.outputs.append(node.outputs[0])
    save(model, path)
    return feeds


def _timed(tower: Tower, pixels: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    tower.run(pixels)
    return time.perf_counter() - started


def flops_of(shape: Shape) -> int:
    left, right = shape
    return 2 * int(np.prod(left)) * right[-1]


if __name__ == "__main__":
    main()

"""What a bundle does on a GPU: correctness, latency, throughput, and what bounds them.

    python -m benchmarks.cuda BUNDLE --photos photos/ --checkpoint CHECKPOINT --json cuda.json

Vectors are held to those of fp32 on the CPU. Every time is from bytes in the host's memory to
vectors there. transformers is measured in the same run where torch can be imported and a
checkpoint is given. With ``--device cpu`` all of it that needs no GPU runs the same way.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bareclip
from bareclip.bundle import TOWERS, Bundle
from bareclip.encoders import Options, TextEncoder
from bareclip.errors import DeviceError
from bareclip.images.folders import image_files
from bareclip.inference.cuda import CudaTower
from bareclip.inference.device import Device
from bareclip.inference.installation import find_driver, import_onnxruntime
from bareclip.inference.session import Tower, make_session
from bareclip.inference.threads import Threads
from bareclip.measure.fidelity import make_corpus
from bareclip.measure.samples import TEXTS
from bareclip.measure.speed import machine, measure
from benchmarks.cuda_peers import ROUND, latency, some, transformers
from benchmarks.roofline import executed, flops_of, write_product

CPU = Device("cpu", required=True)
LEAST_COSINE = {"fp32": 0.9999, "fp16": 0.999}
DTYPES = {"fp32": np.float32, "fp16": np.float16}
Pixels = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, help="to compare with transformers")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--largest", type=int, default=512, help="batch")
    parser.add_argument("--product", type=int, default=8192, help="side of the measured product")
    parser.add_argument("--seconds", type=float, default=2.0, help="most for one figure")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle, device = Bundle.read(arguments.bundle), Device.parse(arguments.device)
    files = image_files(arguments.photos)
    pixels = make_corpus(bundle, [(path, []) for path in files]).pixels
    batches = [2**n for n in range(arguments.largest.bit_length())]
    report: dict[str, Any] = {
        "machine": machine() | _gpus(),
        "bundle": bundle.name,
        "device": device.name,
        "gpus": max(len(device.gpus), 1),
        "photos": len(pixels),
        "precisions": {},
    }
    for precision in _precisions(bundle, device):
        print(f"{precision} on {device.name}")
        report["precisions"][precision] = _precision(
            bundle, precision, device, pixels, batches, arguments.product, arguments.seconds
        )
    print("photos from disk")
    report["host"] = _host(bundle, device, files, report["precisions"], arguments.seconds)
    print("transformers")
    report["torch"] = transformers(arguments.checkpoint, device, pixels, batches, arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["| precision | tower | least cosine to fp32 on the CPU | wanted | |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for name, case in report["precisions"].items():
        for tower, cosine in case["least_cosine"].items():
            missed = "" if cosine >= LEAST_COSINE[name] else "**missed**"
            lines.append(f"| {name} | {tower} | {cosine:.6f} | {LEAST_COSINE[name]} | {missed} |")
    peers = report["torch"] if isinstance(report["torch"], dict) else {}
    rows: dict[str, dict[str, Any]] = {**report["precisions"], **peers}
    lines += ["", "| batch 1, ms | p50 | p99 |", "| --- | --- | --- |"]
    for name, case in rows.items():
        for how, timing in case["latency"].items():
            lines.append(f"| {name}, {how} | {timing['p50']:.3f} | {timing['p99']:.3f} |")
    batches = [*next(iter(report["precisions"].values()))["throughput"]]
    lines += ["", f"| images a second, by batch | {' | '.join(batches)} |"]
    lines += ["| --- " * (len(batches) + 1) + "|"]
    for name, case in rows.items():
        rates = " | ".join(f"{case['throughput'][batch]:.0f}" for batch in batches)
        lines.append(f"| {name} | {rates} |")
    lines.append("")
    for name, case in report["precisions"].items():
        lines.append(
            f"- {name}: {case['tflops']:.3g} TFLOP/s at best, {case['of_product']:.0%} of the "
            f"{case['product_tflops']:.3g} of one large product"
        )
    host = report["host"]
    lines.append(
        f"- photos: {host['decoded']:.0f} decoded a second on {host['threads']} threads, "
        f"{host['encoded']:.0f} encoded, {host['end_to_end']:.0f} from file to vector"
    )
    if isinstance(report["torch"], str):
        lines.append(f"- transformers: {report['torch']}")
    return "\n".join([*lines, *aims(report, peers)])


def aims(report: dict[str, Any], peers: dict[str, Any]) -> list[str]:
    """What was aimed at on one GPU, and what was found; a miss says so."""
    ours = report["precisions"].get("fp16")
    if ours is None or not peers:
        return []
    # transformers has the first GPU alone.
    best = max(ours["throughput"].values()) / report["gpus"]
    p50 = min(timing["p50"] for timing in ours["latency"].values())
    found = []
    for name, aim in (("eager", 1.2), ("compiled", 1.0)):
        ratio = best / max(peers[name]["throughput"].values())
        found.append((f"fp16 throughput to transformers, {name}, at least {aim}", ratio, aim))
    share = peers["eager"]["latency"]["SDPA"]["p50"] / p50
    found.append(("transformers' p50, eager, to ours at batch 1, at least 2", share, 2.0))
    return [f"- {w}: {v:.2f}{'' if v >= aim else ', **missed**'}" for w, v, aim in found]


def _precisions(bundle: Bundle, device: Device) -> list[str]:
    found = []
    for precision in LEAST_COSINE:
        try:
            device.check_precision(precision)
        except DeviceError:
            continue
        if all(tower in bundle.precisions.get(precision, {}) for tower in TOWERS):
            found.append(precision)
    return found


def _precision(
    bundle: Bundle,
    precision: str,
    device: Device,
    pixels: Pixels,
    batches: list[int],
    side: int,
    seconds: float,
) -> dict[str, Any]:
    def load(tower: str, **options: str) -> CudaTower:
        path = bundle.folder / bundle.tower(precision, tower).graph
        return CudaTower.load(path, replace(device, options=options), Threads())

    vision, plain = load("vision"), load("vision", enable_cuda_graph="0")
    towers = {"vision": vision, "text": load("text")}
    ways = {"one kernel at a time": plain} | ({"CUDA graphs": vision} if vision.captures else {})
    throughput = {str(n): _rate(vision, some(pixels, n), seconds) for n in batches}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        product = _product(device, DTYPES[precision], side, Path(scratch), seconds)
        shapes = executed(
            bundle.folder / bundle.tower("fp32", "vision").graph, pixels[:1], Path(scratch)
        )
    flops = sum(flops_of(shape) * count for shape, count in shapes.items())
    achieved = max(throughput.values()) * flops / 1e12 / max(len(device.gpus), 1)
    return {
        "least_cosine": _least_cosines(bundle, towers, pixels),
        "latency": {
            how: latency(partial(tower.run, pixels[:1]), seconds) for how, tower in ways.items()
        },
        "throughput": throughput,
        "tflops": achieved,
        "product_tflops": product,
        "of_product": achieved / product,
    }


def _least_cosines(bundle: Bundle, towers: Mapping[str, Tower], pixels: Pixels) -> dict[str, float]:
    texts = TextEncoder(bundle, Options(precision="fp32", device="cpu"))
    given: dict[str, list[NDArray[Any]]] = {
        "vision": np.array_split(pixels, -(-len(pixels) // 7)),  # no power of two
        "text": [batch for _, batch in texts.batches(TEXTS, batch_size=7)],
    }
    least = {}
    for name, tower in towers.items():
        graph = bundle.folder / bundle.tower("fp32", name).graph
        right = Tower.load(graph, CPU, Threads())
        pairs = zip(_run(tower, given[name]), _run(right, given[name]), strict=True)
        least[name] = min(float((ours * theirs).sum(axis=1).min()) for ours, theirs in pairs)
    return least


def _run(tower: Tower, batches: list[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    return (rows for _, rows in tower.map((None, batch) for batch in batches) if rows is not None)


def _rate(tower: Tower, batch: Pixels, seconds: float) -> float:
    """Images a second with enough batches under way that none is waited for."""
    several = [batch] * ROUND
    timing = measure(lambda: [*_run(tower, several)], seconds)
    return 1000 * len(several) * len(batch) / timing.p50


def _product(
    device: Device, dtype: type[np.floating[Any]], side: int, scratch: Path, seconds: float
) -> float:
    """TFLOP/s of one large matrix product, whose operands stay on the device."""
    shape = ((side, side), (side, side))
    feeds = write_product(shape, scratch / "product.onnx", dtype)
    session = make_session(scratch / "product.onnx", device, Threads())
    place = ("cuda", device.gpus[0]) if device.on_cuda else ("cpu", 0)
    values = import_onnxruntime().OrtValue
    binding = session.io_binding()
    binding.bind_ortvalue_input("left", values.ortvalue_from_numpy(feeds["left"], *place))
    binding.bind_ortvalue_output(
        "product", values.ortvalue_from_shape_and_type((side, side), dtype, *place)
    )
    timing = measure(lambda: session.run_with_iobinding(binding), seconds)
    return flops_of(shape) / (timing.p50 / 1000) / 1e12


def _host(
    bundle: Bundle, device: Device, files: list[Path], cases: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Decoding alone, with every core, and all the way; encoding alone at its best."""
    precision = [*cases][-1]
    threads = os.cpu_count() or 1
    clip = bareclip.load(bundle.folder, precision=precision, device=device.name, threads=threads)

    def decode(paths: list[Path]) -> None:
        for _ in clip.images.pixels(paths):
            pass

    def embed(paths: list[Path]) -> None:
        clip.embed_images(paths, on_error="skip")

    return {
        "threads": threads,
        "precision": precision,
        "decoded": _paths_a_second(decode, files, seconds),
        "encoded": max(cases[precision]["throughput"].values()),
        "end_to_end": _paths_a_second(embed, files, seconds),
    }


def _paths_a_second(
    work: Callable[[list[Path]], object], files: list[Path], wanted: float
) -> float:
    work(files[:8])
    count, took = len(files), 0.0
    while took < wanted:  # more each time, so that starting and ending weigh little
        paths = [*islice(cycle(files), count)]
        started = time.perf_counter()
        work(paths)
        took = time.perf_counter() - started
        rate, count = count / took, 2 * count
    return rate


def _gpus() -> dict[str, str]:
    driver = find_driver()
    return {} if driver is None else {"gpus": ", ".join(driver.gpus), "driver": str(driver.version)}


if __name__ == "__main__":
    main()

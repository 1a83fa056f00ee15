"""Compares ways of quantizing a bundle, in size, speed and fidelity: docs/precision.md.

    python benchmarks/precisions.py BUNDLE --calibrate photos/ --captions pairs.jsonl
    python benchmarks/precisions.py BUNDLE --calibrate photos/ --tree pictures-by-class/

Half of the photos and captions calibrate, the other half judges; a tree adds zero-shot top-1.
The ways that were not chosen are made with the same parts, the dynamic one with ONNX
Runtime's own tool.
"""

import argparse
import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

import bareclip
from bareclip.bundle import TOWERS, Bundle, TowerFiles
from bareclip.measure.accuracy import Setting, zero_shot
from bareclip.measure.fidelity import compare
from bareclip.texts.prompts import PLAIN
from bareclip_export.graph import file_records
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.int4 import write_int4
from bareclip_export.precisions.int8 import write_int8
from bareclip_export.precisions.observe import observe
from bareclip_export.precisions.quantize import batches
from bareclip_export.precisions.sensitivity import choose_static

Write = Callable[[str, Path, Path], None]
COLUMNS = (
    "recipe", "vision MB", "text MB", "images, rate to fp32", "texts, rate to fp32",
    "vision cosine, mean / least", "text cosine, mean / least", "moves in a batch",
    "nearest text the same",
)  # fmt: skip


def ways(bundle: Bundle, data: Data, scratch: Path) -> dict[str, Write]:
    """Name -> writes (tower, source, target)."""
    given = batches(bundle, data.half(1))
    graphs = {tower: bundle.folder / bundle.tower("fp32", tower).graph for tower in TOWERS}
    seen = {tower: observe(graphs[tower], given[tower], scratch) for tower in TOWERS}
    image = {"vision": bundle.image, "text": None}

    def static(smoothed: bool) -> Write:
        return lambda tower, source, target: write_int8(
            source, target, image[tower], seen[tower], seen[tower], smoothed
        )

    def chosen(smoothed: bool) -> Write:
        def write(tower: str, source: Path, target: Path) -> None:
            names = choose_static(source, given[tower][:4], seen[tower], scratch, smoothed)
            write_int8(source, target, image[tower], seen[tower], names, smoothed)

        return write

    return {
        "int8 dynamic (ONNX Runtime's tool)": lambda tower, source, target: quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            use_external_data_format=True,
        ),
        "int8 static": static(False),
        "int8 static, smoothed": static(True),
        "int8 static where harmless": chosen(False),
        "**int8 static where harmless, smoothed**": chosen(True),
        "**int8 weights alone**": lambda tower, source, target: write_int8(
            source, target, image[tower], {}, ()
        ),
        "**int4**": lambda tower, source, target: write_int4(
            source,
            target,
            image[tower],
            seen[tower],
            [name for name, one in seen[tower].items() if one.pooled],
        ),
    }


def add(bundle: Bundle, name: str, write: Write, number: int) -> Bundle:
    """The bundle with one more precision, under the name of its recipe."""
    folder = bundle.folder / f"way{number}"
    folder.mkdir()
    towers = {}
    for tower in TOWERS:
        base = bundle.tower("fp32", tower)
        target = folder / f"{tower}.onnx"
        write(tower, bundle.folder / base.graph, target)
        files = file_records(target, bundle.folder)
        towers[tower] = TowerFiles(
            f"{folder.name}/{target.name}", name, "1.22", base.inputs, files, parity=None
        )
    return dataclasses.replace(bundle, precisions=bundle.precisions | {name: towers})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--calibrate", type=Path)
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--tree", type=Path)
    arguments = parser.parse_args()
    data = Data.read(arguments.calibrate, arguments.captions)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        copy = Path(shutil.copytree(arguments.bundle, Path(folder) / "bundle"))
        bundle, scratch = Bundle.read(copy), Path(folder)
        corpus = data.half(0).corpus(bundle)
        print(f"{bundle.name}, on {corpus.name}\n")
        header = [*COLUMNS, *(["zero-shot top-1"] if arguments.tree else [])]
        rows = [["fp32", *_sizes(bundle, "fp32"), "1", "1", "1", "1", "-", "-"]]
        rows[0] += _top1(bundle, "fp32", arguments.tree)
        for number, (name, write) in enumerate(ways(bundle, data, scratch).items()):
            bundle = add(bundle, name, write, number)
            report = compare(bundle, name, corpus)
            vision, text = (report.towers[tower] for tower in TOWERS)
            rows.append(
                [
                    name,
                    *_sizes(bundle, name),
                    *(f"{tower.speed_ratio:.2f}" for tower in (vision, text)),
                    *(f"{t.mean_cosine:.5f} / {t.min_cosine:.5f}" for t in (vision, text)),
                    f"{max(vision.batch_difference, text.batch_difference):.0e}",
                    f"{report.top1_agreement:.1%}",
                    *_top1(bundle, name, arguments.tree),
                ]
            )
        for row in (header, ["---"] * len(header), *rows):
            print("| " + " | ".join(row) + " |")


def _sizes(bundle: Bundle, precision: str) -> list[str]:
    return [f"{bundle.size(precision, tower) / 1e6:.1f}" for tower in TOWERS]


def _top1(bundle: Bundle, precision: str, tree: Path | None) -> list[str]:
    if tree is None:
        return []
    bundle.write()
    clip = bareclip.load(bundle.folder, precision=precision, reading="as_stored")
    [result] = zero_shot(clip, tree, [Setting("plain", PLAIN, "embedding")]).results
    return [f"{result.top1:.2%}"]


if __name__ == "__main__":
    main()

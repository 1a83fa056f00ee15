"""Makes vectors.npz: what bareclip itself answered before it was rebuilt around encoders.

    python -m tests.goldens.make_vectors

It was run with Pillow 12.3, whose order of resizing is the one that recipes mean: 13 resizes tall
pictures vertically first. Bits also depend on ONNX Runtime's version and on the CPU, which are
kept beside the vectors.
"""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import bareclip
from tests.machine import instructions
from tests.variants import SHAPES, TEXTS, VARIANTS, picture

VECTORS = Path(__file__).with_name("vectors.npz")
# Taller than 2:1, shrunk: where Pillow 12 and 13 part.
TALL = [(60, 200), (100, 450), (33, 500)]
PROMPTS = [f"a photo of a {name}" for name in ("cat", "dog", "bird", "red circle")]


def pictures() -> list[Any]:
    return [picture(*shape) for shape in [*SHAPES, *TALL]]


def answers(clip: bareclip.Clip) -> dict[str, NDArray[Any]]:
    """What a model says of these pictures and texts."""
    images, texts = clip.embed_images(pictures()), clip.embed_texts([*TEXTS, *PROMPTS])
    classifier = clip.classifier(["cat", "dog", "bird"], templates="five")
    return {
        "images": images,
        "texts": texts,
        "probabilities": classifier.probabilities(images),
    }


def fidelity(bundle: Any) -> str:
    """What int8 is found to be against fp32, but for its speed."""
    report = dataclasses.asdict(bundle.fidelity["int8"])
    for tower in report["towers"].values():
        del tower["speed_ratio"]
    return json.dumps(report, sort_keys=True)


def main() -> None:
    # Here, since tests of the runtime take the rest of this file without the exporter.
    from bareclip_export.export import export
    from bareclip_export.precisions.data import Data
    from bareclip_export.precisions.quantize import quantize
    from tests.seeded import siglip
    from tests.seeded.clip import write_checkpoint

    found: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        checkpoints = {
            name: write_checkpoint(root / name, sizes) for name, sizes in VARIANTS.items()
        }
        checkpoints["siglip"] = siglip.write_checkpoint(root / "siglip")
        for name, path in checkpoints.items():
            bundle = export(str(path), root / f"{name}-bundle")
            clip = bareclip.load(bundle.folder)
            found |= {f"{name}.{what}": rows for what, rows in answers(clip).items()}
            if name == "tiny":
                found["tiny.int8"] = np.array(fidelity(quantize(bundle, "int8", Data([], []))))
        found |= {f"demo.{what}": rows for what, rows in answers(bareclip.load()).items()}
    found["instructions"] = np.array(instructions())
    found["onnxruntime"] = np.array(onnxruntime.__version__)
    np.savez_compressed(VECTORS, **found)


if __name__ == "__main__":
    main()

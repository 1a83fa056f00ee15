"""Inputs for towers of the tests' small bundles, and plain ways to run a graph."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from bareclip.bundle import Bundle
from bareclip.measure.samples import TEXTS, drawn_pixels
from bareclip.texts.tokenizer import Tokenizer


def run(graph: Path, given: NDArray[Any]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: given})[0]
    return found


def operators(graph: Path) -> list[str]:
    return [node.op_type for node in onnx.load(graph, load_external_data=False).graph.node]


@pytest.fixture(scope="session")
def inputs(bundles: dict[str, Path]) -> dict[tuple[str, str], list[NDArray[Any]]]:
    """(variant, tower) -> batches."""
    found: dict[tuple[str, str], list[NDArray[Any]]] = {}
    for variant, folder in bundles.items():
        bundle = Bundle.read(folder)
        tokenizer = Tokenizer.load(folder / "tokenizer.json", bundle.text)
        ids = tokenizer.encode(TEXTS, truncate=True)
        found[variant, "text"] = [batch for _, batch in tokenizer.batches(ids, 8)]
        pixels = drawn_pixels(bundle.image.size, 16)
        found[variant, "vision"] = [pixels[:8], pixels[8:]]
    return found

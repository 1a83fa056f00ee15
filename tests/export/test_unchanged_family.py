"""A family's vectors, and a report on a precision, are what they were; see test_unchanged.py."""

from pathlib import Path

import numpy as np

import bareclip
from bareclip_export.export import export
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from tests.goldens.make_vectors import VECTORS, fidelity
from tests.machine import instructions
from tests.runtime.test_unchanged import check


def test_siglip(families: dict[str, Path]) -> None:
    with np.load(VECTORS) as vectors:
        check("siglip", bareclip.load(families["siglip"]), dict(vectors))


def test_the_report_on_int8(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    made = quantize(export(str(checkpoints["tiny"]), tmp_path / "x"), "int8", Data([], []))
    with np.load(VECTORS) as vectors:
        if instructions() == str(vectors["instructions"]):
            assert fidelity(made) == str(vectors["tiny.int8"])

"""Vectors and probabilities are what they were: goldens/make_vectors.py wrote them down.

Bit for bit where the CPU's instructions and ONNX Runtime's version are those of the goldens.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import bareclip
from tests.goldens.make_vectors import VECTORS, answers
from tests.machine import instructions

Goldens = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def vectors() -> Iterator[Goldens]:
    with np.load(VECTORS) as archive:
        yield dict(archive)


def check(name: str, clip: bareclip.Clip, vectors: Goldens) -> None:
    here = instructions(), onnxruntime.__version__
    same = here == (str(vectors["instructions"]), str(vectors["onnxruntime"]))
    for what, found in answers(clip).items():
        wanted = vectors[f"{name}.{what}"]
        if same:
            np.testing.assert_array_equal(found, wanted, what)
        else:
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5, err_msg=what)


def test_the_demo_model(vectors: Goldens) -> None:
    check("demo", bareclip.load(), vectors)


def test_exported_models(variant: str, bundles: dict[str, Path], vectors: Goldens) -> None:
    check(variant, bareclip.load(bundles[variant]), vectors)

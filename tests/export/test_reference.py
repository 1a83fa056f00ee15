"""The float64 forward that exports are verified with, held to transformers."""

from pathlib import Path
from typing import Any

import numpy as np

from bareclip_export.authored import convert
from bareclip_export.checkpoint import Checkpoint
from tests.variants import SHAPES


def test_the_forward_answers_as_transformers(
    checkpoints: dict[str, Path], variant: str, goldens: dict[str, Any]
) -> None:
    reference = convert(Checkpoint.open(str(checkpoints[variant]))).reference
    pixels = np.stack([goldens[f"{variant}.pixels.{i}"] for i in range(6 + len(SHAPES))])
    images = reference["vision"](pixels)
    texts = reference["text"](goldens[f"{variant}.ids"])
    assert images.dtype == texts.dtype == np.float64
    np.testing.assert_allclose(images, goldens[f"{variant}.images"], atol=2e-6)
    np.testing.assert_allclose(texts, goldens[f"{variant}.texts"], atol=2e-6)

"""The bundles that runtime tests take are what the exporter makes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip.bundle import Bundle
from bareclip_export.export import export
from tests.conftest import BUNDLES
from tests.variants import TEXTS, picture


@pytest.mark.parametrize(("variant", "name"), [("tiny", "precise"), ("odd", "odd")])
def test_a_bundle_is_what_the_exporter_makes(
    checkpoints: dict[str, Path], tmp_path: Path, variant: str, name: str
) -> None:
    made, kept = export(str(checkpoints[variant]), tmp_path / "bundle"), Bundle.read(BUNDLES / name)
    towers = {"precisions", "fidelity", "source"}
    for field in dataclasses.fields(Bundle):
        if field.name not in towers | {"folder"}:
            assert getattr(made, field.name) == getattr(kept, field.name)
    images = [picture(20 + i, 30, seed=i) for i in range(4)]
    fresh, old = bareclip.load(made.folder), bareclip.load(kept.folder, precision="fp32")
    np.testing.assert_allclose(fresh.embed_images(images), old.embed_images(images), atol=1e-6)
    np.testing.assert_allclose(fresh.embed_texts(TEXTS), old.embed_texts(TEXTS), atol=1e-6)

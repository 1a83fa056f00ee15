"""Fixtures: checkpoints and bundles that tests make, and the longer checks' data."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip_export.export import export
from bareclip_export.layouts import open_clip_siglip
from tests.seeded import open_clip, siglip
from tests.seeded.clip import write_checkpoint

from .variants import VARIANTS

OPEN_CLIP = [name for name in open_clip.CONFIGS if name.startswith("tiny")]
# Small ones of every family but CLIP in Hugging Face's layout, which VARIANTS has.
FAMILIES = [*OPEN_CLIP, "siglip"]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared towers of tests go nowhere near the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARECLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", params=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: write_checkpoint(root / name, sizes) for name, sizes in VARIANTS.items()}


@pytest.fixture(scope="session")
def bundles(
    checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Exported once; tests that damage a bundle copy it first."""
    root = tmp_path_factory.mktemp("bundles")
    return {name: export(str(path), root / name).folder for name, path in checkpoints.items()}


@pytest.fixture(scope="session")
def clip(bundles: dict[str, Path]) -> bareclip.Clip:
    return bareclip.load(bundles["tiny"])


@pytest.fixture(scope="session")
def goldens() -> dict[str, Any]:
    """What transformers answers; see goldens/make_goldens.py."""
    with np.load(Path(__file__).parent / "goldens" / "goldens.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="session")
def data() -> Path:
    """Real photos, CLIP's vocabulary and OpenAI's goldens, which are not in the repository.

    Described in CONTRIBUTING.md; tests that want them skip without them.
    """
    folder = os.environ.get("BARECLIP_DATA")
    if not folder:
        pytest.skip("BARECLIP_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def family_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    made = {name: open_clip.write_checkpoint(root / name, name) for name in OPEN_CLIP}
    return made | {"siglip": siglip.write_checkpoint(root / "siglip")}


@pytest.fixture(scope="session")
def families(
    family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A bundle of each, exported once."""
    root = tmp_path_factory.mktemp("family-bundles")
    trunk = open_clip_siglip.Trunk(48, 2, 12, 4.0, "gelu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip_siglip.TRUNKS, "vit_base_patch8_siglip", trunk)
        return {
            name: export(str(path), root / name).folder for name, path in family_checkpoints.items()
        }

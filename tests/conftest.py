"""Fixtures: checkpoints and bundles that tests make, and the longer checks' data."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.bundle import Bundle

from .variants import VARIANTS

BUNDLES = Path(__file__).parent / "bundles"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The graph cache of tests goes nowhere near the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARECLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", params=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from tests.seeded.clip import write_checkpoint  # which needs safetensors

    root = tmp_path_factory.mktemp("checkpoints")
    return {name: write_checkpoint(root / name, sizes) for name, sizes in VARIANTS.items()}


@pytest.fixture(scope="session")
def precise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle "tiny" at every precision; tests that change a bundle copy it first."""
    place = tmp_path_factory.mktemp("precise") / "tiny"
    return Path(shutil.copytree(BUNDLES / "precise", place))


@pytest.fixture(scope="session")
def bundles(precise: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each variant's bundle at fp32; tests that change a bundle copy it first."""
    root = tmp_path_factory.mktemp("bundles")
    tiny = Path(shutil.copytree(precise, root / "tiny"))
    whole = Bundle.read(tiny)
    dataclasses.replace(whole, precisions={"fp32": whole.precisions["fp32"]}, fidelity={}).write()
    for precision in set(whole.precisions) - {"fp32"}:
        shutil.rmtree(tiny / precision)
    return {"tiny": tiny, "odd": Path(shutil.copytree(BUNDLES / "odd", root / "odd"))}


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

"""The aarch64 wheels on emulated processors: what they answer, never how fast.

BARECLIP_ARM names the folder that make_machine.sh made.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.bundle import DEMO, Bundle

HERE = Path(__file__).parent
# A Raspberry Pi 4's, without dot products; a Pi 5's, with them and half precision; all there is.
PROCESSORS = ["cortex-a72", "cortex-a76", "max"]
DOT_PRODUCTS = {"cortex-a76", "max"}
PRECISIONS = ["fp32", "int8", "int4", "fp16"]
# Cosine to x86's answers at the same precision, at least.
LEAST = {"fp32": 1 - 1e-6, "int8": 0.9999, "int4": 0.9999, "fp16": 0.9999}


@pytest.fixture(scope="module")
def machine() -> Path:
    folder = os.environ.get("BARECLIP_ARM")
    if not folder or not (Path(folder) / "made").is_file():
        pytest.skip("BARECLIP_ARM names no folder that make_machine.sh made")
    return Path(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in every precision, int8 with scales of activations."""
    from bareclip_export.precisions.data import Data
    from bareclip_export.precisions.quantize import quantize

    folder = Path(shutil.copytree(DEMO, tmp_path_factory.mktemp("arm") / "demo"))
    captions = folder.parent / "captions.txt"
    captions.write_text("\n".join(path.stem for path in sorted((DEMO / "pictures").iterdir())))
    data = Data.read(DEMO / "pictures", captions)
    for precision in PRECISIONS[1:]:
        quantize(Bundle.read(folder), precision, data, force=True)
    recipes = [tower.recipe for tower in Bundle.read(folder).precisions["int8"].values()]
    assert all(recipe.startswith("static for ") for recipe in recipes)
    assert not any(recipe.startswith("static for 0") for recipe in recipes)
    return folder


def ask(command: list[str], bundle: Path, output: Path, **environment: str) -> dict[str, Any]:
    arguments = [str(HERE / "answers.py"), str(bundle), str(output), ",".join(PRECISIONS)]
    found = subprocess.run(
        [*command, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    told: dict[str, Any] = json.loads(found.stdout)
    with np.load(output) as archive:
        return told | dict(archive)


@pytest.fixture(scope="module")
def native(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ask([sys.executable], bundle, tmp_path_factory.mktemp("native") / "answers.npz")


@pytest.mark.parametrize("processor", PROCESSORS)
def test_an_arm_processor_answers_as_this_one(
    machine: Path, bundle: Path, native: dict[str, Any], processor: str, tmp_path: Path
) -> None:
    package = Path(bareclip.__file__).parents[1]
    found = ask(
        [str(machine / "python")],
        bundle,
        tmp_path / "answers.npz",
        QEMU_CPU=processor,
        PYTHONPATH=f"{package}:{machine / 'site'}",
    )
    assert found["machine"] == "aarch64"
    for precision in PRECISIONS:
        for tower in ("vision", "text"):
            ours, theirs = (each[f"{precision} {tower}"] for each in (native, found))
            cosines = (ours.astype(np.float64) * theirs).sum(axis=1)
            assert cosines.min() >= LEAST[precision]
            if precision == "fp32":
                assert np.abs(ours - theirs).max() <= 1e-6
    for name, moved in found["moved"].items():
        precision = name.split()[0]
        if precision == "fp32" or (processor in DOT_PRODUCTS and precision != "fp16"):
            assert moved == 0.0, name
        elif precision != "fp16":
            # Without dot products weights of 8 or 4 bits become floats, and a thread that has 64
            # columns of a product or fewer adds them up in another order.
            assert moved < 1e-6, name
    assert found["hostile files that are errors"] == 10

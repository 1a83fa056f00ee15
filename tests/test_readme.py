"""The README's Python runs as printed, on the demo model."""

import re
import shutil
from pathlib import Path

import pytest

import bareclip
from bareclip.bundle import Bundle
from bareclip.cli.demo import PICTURES
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize

ROOT = Path(__file__).parents[1]


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog"):
        shutil.copy(PICTURES / f"{name}.png", tmp_path / f"{name}.jpg")
    shutil.copy(PICTURES / "dog-on-the-beach.png", tmp_path / "beach.jpg")
    copy = shutil.copytree(bareclip.load().bundle.folder, tmp_path / "clip-b32")
    quantize(Bundle.read(Path(copy)), "int8", Data([], []))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) >= 4
    assert {"clip", "classifier", "images", "texts", "items"} <= set(names)


def test_the_readme_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / target).exists(), target

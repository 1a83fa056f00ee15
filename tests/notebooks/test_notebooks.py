"""The notebooks run from top to bottom, as printed, in an empty folder."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs bareclip[notebooks]")
nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
assert NOTEBOOKS


@pytest.mark.filterwarnings("default")  # of Jupyter's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    assert all(not cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)

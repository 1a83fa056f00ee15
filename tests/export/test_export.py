import errno
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bareclip.bundle import Bundle
from bareclip.measure.samples import drawn_pixels
from bareclip_export.errors import CheckpointError, DiskFullError, ParityError
from bareclip_export.export import export
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from bareclip_export.towers.vision_transformer import VisionTransformer
from tests.runtime.test_cli import run


def test_the_manifest_says_where_it_comes_from_and_how_well_it_fits(
    bundles: dict[str, Path], variant: str
) -> None:
    bundle = Bundle.read(bundles[variant])
    assert bundle.source.checkpoint == variant
    assert bundle.source.architecture == "CLIPModel"
    assert re.fullmatch(r"bareclip \d+\.\d+\.\d+, authored", bundle.source.exporter)
    assert bundle.scoring.logit_scale == pytest.approx(np.log(100))
    for tower in ("vision", "text"):
        parity = bundle.precisions["fp32"][tower].parity
        assert 0 < parity.max_difference < 1e-6
        assert parity.min_cosine == pytest.approx(1, abs=1e-9)
        assert parity.reference == "float64 NumPy"
        assert parity.inputs >= 4


def test_the_same_checkpoint_gives_the_same_bytes(
    checkpoints: dict[str, Path], bundles: dict[str, Path], tmp_path: Path
) -> None:
    again = export(str(checkpoints["tiny"]), tmp_path / "again")
    assert again.files() == Bundle.read(bundles["tiny"]).files()


def test_a_wrong_tower_fails_the_export_and_leaves_nothing(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = VisionTransformer._fold_patch
    monkeypatch.setattr(VisionTransformer, "_fold_patch", lambda self: fold(self) * 1.001)
    with pytest.raises(ParityError, match=r"the vision tower differs .* more than 1e-05"):
        export(str(checkpoints["tiny"]), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_tensor_that_is_not_of_numbers_is_named(
    checkpoints: dict[str, Path], tmp_path: Path, value: float
) -> None:
    folder = Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))
    tensors = load_file(folder / "model.safetensors")
    tensors["text_projection.weight"][0, 0] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"'text_projection\.weight' in .* numbers that are n"
    ):
        export(str(folder), tmp_path / "bundle")


def test_a_layer_without_its_bias_is_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    save_file(tensors, folder / "model.safetensors")
    message = r"layer 'text_model.encoder.layers.1.self_attn.k_proj' in .* has a weight and no bias"
    with pytest.raises(CheckpointError, match=message):
        export(str(folder), tmp_path / "bundle")


def test_weights_that_numpy_has_no_type_for(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """8-bit floats: the same bytes in safetensors, under another name."""
    folder = Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "text_model.embeddings.token_embedding.weight"
    save_file(tensors | {name: np.ones(tensors[name].shape, np.uint8)}, path)
    data = path.read_bytes()
    assert data.count(b'"dtype":"U8"') == 1
    size = int.from_bytes(data[:8], "little") + 4
    header = data[8 : size + 4].replace(b'"dtype":"U8"', b'"dtype":"F8_E4M3"')
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[size + 4 :])
    with pytest.raises(
        CheckpointError, match=rf"tensor '{name}' of .*in float32, float16 or bfloa"
    ):
        export(str(folder), tmp_path / "bundle")


def test_what_is_there_is_not_lost(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    good = export(str(checkpoints["tiny"]), output)
    with pytest.raises(CheckpointError, match="exists already; give another -o, or --overwrite"):
        export(str(checkpoints["odd"]), output)
    with pytest.raises(CheckpointError, match="neither a folder"):
        export(str(tmp_path / "none" / "x" / "y"), output, overwrite=True)
    assert Bundle.read(output) == good
    assert export(str(checkpoints["odd"]), output, overwrite=True).name == "odd"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    (tmp_path / "link").symlink_to("bundle")
    assert export(str(checkpoints["tiny"]), tmp_path / "link", overwrite=True).name == "tiny"
    assert Bundle.read(output).name == "tiny"
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "link"}
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "diary.txt").write_text("dear diary")
    with pytest.raises(CheckpointError, match="exists already and is not a bundle"):
        export(str(checkpoints["tiny"]), notes, overwrite=True)
    assert (notes / "diary.txt").read_text() == "dear diary"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("2371584 requested and 444416 written"),  # as ndarray.tofile has it
    ],
)
def test_a_full_disk_is_said_and_costs_nothing(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
) -> None:
    made = export(str(checkpoints["tiny"]), tmp_path / "bundle")

    def full(model: object, path: Path, **settings: object) -> None:
        raise error

    monkeypatch.setattr("onnx_ir.save", full)
    for write in (
        lambda: export(str(checkpoints["odd"]), tmp_path / "bundle", overwrite=True),
        lambda: quantize(made, "int8", Data([], [])),
    ):
        with pytest.raises(DiskFullError, match="no space is left .* nothing was changed: free"):
            write()
        assert Bundle.read(tmp_path / "bundle") == made
        assert made.damage() == []
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
        assert not list(made.folder.glob(".*"))


def test_killed_while_writing_leaves_no_bundle(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    code = (
        "import os, sys, bareclip_export.export as e\n"
        "e.check_images = lambda *a: os.kill(os.getpid(), 9)\n"
        "from pathlib import Path\n"
        "e.export(sys.argv[1], Path(sys.argv[2]))"
    )
    output = tmp_path / "bundle"
    command = [sys.executable, "-c", code, str(checkpoints["tiny"]), str(output)]
    assert subprocess.run(command, check=False).returncode == -9
    assert not output.exists()
    assert export(str(checkpoints["tiny"]), output).name == "tiny"


def test_the_command(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "new" / "bundle"
    found = run("export", checkpoints["tiny"], "-o", output)
    assert found.stdout == f"{output}: tiny, 1 MB, verified\n"
    assert "largest difference" in found.stderr
    assert Bundle.read(output).damage() == []
    assert "exists already" in complaint_of_export(checkpoints["tiny"], output)
    again = run("export", checkpoints["tiny"], "-o", output, "--overwrite", "--json")
    told = json.loads(again.stdout)
    assert (told["bundle"], told["name"]) == (str(output), "tiny")
    assert told["parity"]["vision"]["max_difference"] < 1e-6
    assert "is no folder here, and cannot be downloaded" in complaint_of_export(
        "nobody/nothing", tmp_path / "x", HF_HUB_OFFLINE="1"
    )


def complaint_of_export(checkpoint: Any, output: Path, **environment: str) -> str:
    found = run("export", checkpoint, "-o", output, code=1, **environment)
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    return found.stderr


def test_export_needs_its_extra() -> None:
    code = "import sys; sys.modules['onnxscript'] = None\nimport bareclip.cli.main as m; m.main()"
    command = [sys.executable, "-c", code, "export", "x", "-o", "y"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert "pip install 'bareclip[export]'" in found.stderr
    assert found.stderr.count("\n") == 1


def test_optimum_needs_its_extra(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    code = "import sys; sys.modules['optimum'] = None\nimport bareclip.cli.main as m; m.main()"
    arguments = ["export", str(checkpoints["tiny"]), "-o", str(tmp_path / "x"), "--via", "optimum"]
    command = [sys.executable, "-c", code, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert "pip install 'bareclip[optimum]'" in found.stderr
    assert "Traceback" not in found.stderr


def test_exporting_imports_no_torch(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, bareclip_export.export as e\n"
        "e.export(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(checkpoints["tiny"]), str(tmp_path / "bundle")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_samples_are_varied_and_always_the_same() -> None:
    pictures = drawn_pixels(40, 4)
    np.testing.assert_array_equal(pictures, drawn_pixels(40, 4))
    assert pictures.shape == (4, 40, 40, 3)
    assert len({picture.tobytes() for picture in pictures}) == 4
    # Like scenes: neighbours resemble each other; noise: they do not.
    correlation = [np.corrcoef(p[:, 1:, 0].ravel(), p[:, :-1, 0].ravel())[0, 1] for p in pictures]
    assert correlation[0] > 0.6
    assert abs(correlation[3]) < 0.1

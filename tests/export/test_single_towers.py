"""Bundles of one tower: what they do, and that they say what they cannot."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bareclip
from bareclip.bundle import Bundle
from bareclip.errors import BundleError
from bareclip_export.export import export
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from tests.runtime.test_cli import run
from tests.seeded.clip import SIZES, config, write_checkpoint
from tests.variants import TEXTS, batch, picture

ARCHITECTURES = {
    "vision": ("CLIPVisionModelWithProjection", "visual_projection", "vision_model"),
    "text": ("CLIPTextModelWithProjection", "text_projection", "text_model"),
}


def write_tower(folder: Path, tower: str) -> Path:
    """One tower of the tiny checkpoint, as transformers saves it: a config without sections."""
    write_checkpoint(folder)
    architecture, projection, prefix = ARCHITECTURES[tower]
    tensors = load_file(folder / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if n.startswith((prefix, projection))}
    save_file(kept, folder / "model.safetensors")
    vocabulary = len(tensors["text_model.embeddings.token_embedding.weight"])
    section = config(SIZES["tiny"], vocabulary)[f"{tower}_config"]
    (folder / "config.json").write_text(
        json.dumps(section | {"architectures": [architecture], "model_type": f"clip_{prefix}"})
    )
    return folder


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("towers")
    return {
        tower: export(str(write_tower(root / tower, tower)), root / f"{tower}-bundle").folder
        for tower in ARCHITECTURES
    }


def test_a_tower_alone_answers_as_in_the_whole_model(
    towers: dict[str, Path], clip: bareclip.Clip
) -> None:
    vision, text = bareclip.load(towers["vision"]), bareclip.load(towers["text"])
    images = list(batch(32, 3))
    np.testing.assert_array_equal(vision.embed_images(images), clip.embed_images(images))
    np.testing.assert_array_equal(text.embed_texts(TEXTS), clip.embed_texts(TEXTS))
    assert vision.device == text.device == "cpu"
    assert vision.bundle.source.architecture == "CLIPVisionModelWithProjection"
    assert (vision.precision, text.precision) == ({"vision": "fp32"}, {"text": "fp32"})


def test_the_missing_tower_is_an_error_that_says_so(towers: dict[str, Path]) -> None:
    vision, text = bareclip.load(towers["vision"]), bareclip.load(towers["text"])
    with pytest.raises(BundleError, match="has a vision tower only, so it embeds no texts"):
        vision.embed_texts(["a cat"])
    with pytest.raises(BundleError, match="has a vision tower only"):
        vision.classify(batch(32, 3)[0], ["cat", "dog"])
    with pytest.raises(BundleError, match="has a text tower only, so it embeds no images"):
        text.embed_images(list(batch(32, 3)))
    with pytest.raises(BundleError, match="or name some of vision, which is what"):
        bareclip.load(towers["vision"], precision={"vision": "fp32", "text": "fp32"})


def test_an_index_of_a_vision_tower_alone(towers: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        picture(60, 40, seed=ord(name[0])).save(tmp_path / f"{name}.png")
    db = tmp_path / "photos.db"
    run("index", tmp_path, "--db", db, "--bundle", towers["vision"])
    assert run("index", tmp_path, "--db", db).stdout == "0 added, 2 unchanged\n"
    found = json.loads(run("search", db, "--image", tmp_path / "one.png", "--json").stdout)
    assert [hit["item"] for hit in found[0]["hits"]] == [str(tmp_path / "two.png")]
    error = run("search", db, "a cat", code=1).stderr
    assert "has a vision tower only, so it embeds no texts" in error
    vectors = tmp_path / "vectors.npz"
    run(
        "embed", tmp_path, "-o", vectors, "--bundle", towers["vision"], "--precision", "vision=fp32"
    )
    assert vectors.exists()


def test_its_files_are_its_towers_alone(towers: dict[str, Path]) -> None:
    assert set(Bundle.read(towers["vision"]).files()) == {
        "fp32/vision.onnx",
        "fp32/vision.onnx.data",
    }
    assert "tokenizer.json" in Bundle.read(towers["text"]).files()
    assert "no text tower" in run("info", towers["vision"]).stdout
    assert "no vision tower" in run("info", towers["text"]).stdout


@pytest.mark.parametrize("tower", ARCHITECTURES)
def test_a_tower_alone_is_quantized(tmp_path: Path, tower: str) -> None:
    made = export(str(write_tower(tmp_path / tower, tower)), tmp_path / "bundle")
    found = quantize(made, "int8", Data([], []), force=True).fidelity["int8"]
    assert set(found.towers) == {tower}
    assert found.towers[tower].mean_cosine > 0.98
    assert (found.top1_agreement, found.recall1_change) == (None, None)
    shown = run("verify", tmp_path / "bundle").stdout
    assert "nearest text" not in shown
    assert tower in shown

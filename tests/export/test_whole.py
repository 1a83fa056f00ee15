"""Whole graphs, and that which resizes, against Pillow in the recipe's order."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

import bareclip
from bareclip.bundle import Bundle
from bareclip.bundle.pair import pair
from bareclip.errors import BundleError
from bareclip_export.errors import CheckpointError, ParityError, PrecisionError
from bareclip_export.export import export
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from bareclip_export.towers.resampling import FILTERS
from bareclip_export.whole import add_whole
from tests.runtime.test_cli import run
from tests.variants import picture

# Heights and widths: wide, tall within two to one and beyond, where Pillow 13 turns the order,
# smaller than the model takes, as large as that, one pixel, and a difference of 3 from the crop.
SHAPES = [(120, 310), (300, 190), (700, 90), (17, 9), (32, 32), (1, 1), (35, 32), (32, 35), (5, 90)]


@pytest.fixture
def copy(bundles: dict[str, Path], tmp_path: Path) -> Bundle:
    return Bundle.read(Path(shutil.copytree(bundles["tiny"], tmp_path / "bundle")))


def pictures() -> list[NDArray[np.uint8]]:
    """Noise, noise of black and white, and slopes."""
    rng = np.random.default_rng(7)
    found = []
    for height, width in SHAPES:
        noise = rng.integers(0, 256, (height, width, 3))
        slope = np.add.outer(3 * np.arange(height), 2 * np.arange(width))[..., None] + [0, 40, 90]
        found += [noise, (noise > 127) * 255, slope % 256]
    return [each.astype(np.uint8) for each in found]


def by_pillow(image: NDArray[np.uint8], recipe: Any) -> NDArray[np.uint8]:
    """Rows first, then columns, then the crop, written down once more."""
    height, width = image.shape[:2]
    target, shorter = recipe.resize_to, min(height, width)
    to = (target, target)
    if recipe.resize == "shortest":
        to = (width * target // shorter, height * target // shorter)
    resampling = Image.Resampling[recipe.interpolation.upper()]
    resized = Image.fromarray(image).resize((to[0], height), resampling).resize(to, resampling)
    gaps = [side - recipe.size for side in to]
    left, top = (g // 2 if recipe.crop_offset == "floor" else round(g / 2) for g in gaps)
    return np.asarray(resized)[top : top + recipe.size, left : left + recipe.size]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_offset", ["floor", "round"])
@pytest.mark.parametrize(("resize", "to"), [("shortest", 32), ("shortest", 39), ("squash", 35)])
def test_resizing_is_pillows(
    copy: Bundle, interpolation: Any, crop_offset: Any, resize: Any, to: int
) -> None:
    assert copy.image is not None
    recipe = dataclasses.replace(
        copy.image,
        interpolation=interpolation,
        crop_offset=crop_offset,
        resize=resize,
        resize_to=to,
    )
    dataclasses.replace(copy, image=recipe).write()
    made = add_whole(Bundle.read(copy.folder))
    session = onnxruntime.InferenceSession(made.folder / "resize.onnx")
    found = [session.run(None, {"image": image})[0][0] for image in pictures()]
    wanted = [by_pillow(image, recipe) for image in pictures()]
    np.testing.assert_array_equal(np.stack(found), np.stack(wanted))


def test_vectors_are_those_of_the_bundle_at_every_precision(precise: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(precise, tmp_path / "bundle"))
    made = add_whole(Bundle.read(folder))
    assert made.whole is not None
    assert list(made.whole.towers) == ["fp32", "int8", "int4", "fp16"]
    given = [np.asarray(picture(width, height)) for height, width in SHAPES]
    for precision, tower in made.whole.towers.items():
        vision = made.precisions[precision]["vision"]
        assert tower.files.keys() - vision.files.keys() == {f"{precision}/whole.onnx"}
        assert vision.files.keys() - tower.files.keys() == {f"{precision}/vision.onnx"}
        session = onnxruntime.InferenceSession(folder / tower.graph)
        found = np.concatenate([session.run(None, {"image": image})[0] for image in given])
        if precision == "fp16":  # which bareclip loads on CUDA alone
            cosines = (found * bareclip.load(folder).embed_images(given)).sum(axis=1)
            assert cosines.min() > 0.999
        else:
            wanted = bareclip.load(folder, precision=precision).embed_images(given)
            assert np.abs(found - wanted).max() < 1e-5
    assert made.damage() == []


def test_graphs_are_of_standard_operators(copy: Bundle) -> None:
    add_whole(copy)
    for name in ("resize.onnx", "fp32/whole.onnx"):
        model = onnx.load(copy.folder / name, load_external_data=False)
        onnx.checker.check_model(copy.folder / name, full_check=True)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
        assert model.ir_version == 8
        assert [value.name for value in model.graph.input] == ["image"]


def test_a_resizing_that_is_not_pillows_is_refused_and_costs_nothing(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = add_whole(copy)
    before = {path: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()}
    monkeypatch.setitem(FILTERS, "bicubic", FILTERS["bilinear"])
    with pytest.raises(ParityError, match=r"differs from Pillow's pixels by up to \d+ levels"):
        add_whole(made, overwrite=True)
    assert before == {path: path.read_bytes() for path in copy.folder.rglob("*") if path.is_file()}


def test_a_filter_that_graphs_lack_is_named(copy: Bundle) -> None:
    assert copy.image is not None
    recipe = dataclasses.replace(copy.image, interpolation="lanczos")
    dataclasses.replace(copy, image=recipe).write()
    with pytest.raises(CheckpointError, match="by lanczos; whole graphs are made for bilinear"):
        add_whole(Bundle.read(copy.folder))


def test_what_is_added_or_dropped_later_keeps_the_bundle_whole(
    copy: Bundle, tmp_path: Path
) -> None:
    add_whole(copy)
    more = quantize(Bundle.read(copy.folder), "int4", Data([], []))
    assert more.whole is not None
    assert list(more.whole.towers) == ["fp32", "int4"]
    again = quantize(more, "int4", Data([], []), overwrite=True)
    assert again.damage() == []
    assert pair(again, again, tmp_path / "pair").whole is None


def test_a_precision_whose_whole_graph_fails_is_kept_and_said_to_be(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = add_whole(copy)
    with monkeypatch.context() as patch:
        patch.setitem(FILTERS, "bicubic", FILTERS["bilinear"])
        with pytest.raises(PrecisionError) as failed:
            quantize(made, "int4", Data([], []))
    said = str(failed.value)
    assert said.startswith(f"int4 is in {copy.folder}, without its whole graph: resize.onnx dif")
    assert said.endswith(
        f"`bareclip whole {copy.folder} --overwrite` makes them anew once that is mended"
    )
    assert "nothing was written" not in said
    kept = Bundle.read(copy.folder)
    assert kept.damage() == []
    assert kept.whole == made.whole
    assert bareclip.load(copy.folder, precision="int4").embed_texts(["a cat"]).shape == (1, 20)
    again = add_whole(kept, overwrite=True).whole
    assert again is not None
    assert list(again.towers) == ["fp32", "int4"]


def test_a_manifest_says_of_whole_graphs_what_this_version_knows(copy: Bundle) -> None:
    assert "whole" not in json.loads((copy.folder / "bundle.json").read_text())
    add_whole(copy)
    manifest = json.loads((copy.folder / "bundle.json").read_text())
    manifest["whole"]["resize"]["colours"] = 3
    (copy.folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"unknown field 'colours' in .*: whole: resize"):
        Bundle.read(copy.folder)
    del manifest["whole"]["resize"]["colours"]
    manifest["whole"]["towers"]["int8"] = manifest["whole"]["towers"]["fp32"]
    (copy.folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="lacks a vision tower at every precision that"):
        Bundle.read(copy.folder)


def test_a_text_tower_alone_has_none(copy: Bundle) -> None:
    files = {"fp32": {"text": copy.precisions["fp32"]["text"]}}
    dataclasses.replace(copy, image=None, precisions=files).write()
    with pytest.raises(BundleError, match="has a text tower only"):
        add_whole(Bundle.read(copy.folder))


def test_the_commands(checkpoints: dict[str, Path], copy: Bundle, tmp_path: Path) -> None:
    made = export(str(checkpoints["tiny"]), tmp_path / "made", whole=True)
    found = run("whole", copy.folder)
    assert found.stdout.startswith("resize.onnx: at most ")
    assert "fp32/whole.onnx: largest difference" in found.stdout
    assert Bundle.read(copy.folder).whole == made.whole
    assert "--overwrite makes them anew" in run("whole", copy.folder, code=1).stderr
    told = json.loads(run("whole", copy.folder, "--overwrite", "--json").stdout)
    assert told["towers"]["fp32"]["parity"]["max_difference"] < 1e-4
    (copy.folder / "resize.onnx").write_bytes(b"x" * (copy.folder / "resize.onnx").stat().st_size)
    described = run("info", copy.folder, code=1)
    assert "damaged, its checksums differ: resize.onnx" in described.stderr
    assert "resize.onnx, fp32/whole.onnx" in described.stdout

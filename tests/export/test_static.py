"""Graphs of fixed shapes: of every family, and what the runtime does with them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bareclip
from bareclip.bundle import Bundle
from bareclip.bundle.pair import pair
from bareclip.errors import BundleError
from bareclip_export.errors import CheckpointError, PrecisionError
from bareclip_export.export import export
from bareclip_export.layouts import open_clip_siglip
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import Precisions, quantize
from bareclip_export.whole import add_whole
from tests.runtime.test_cli import run
from tests.small_trunks import small_trunks
from tests.variants import TEXTS, VARIANTS, picture

from .conftest import FAMILIES

# What the compilers of one or another NPU lack.
REFUSED = {"ReduceL2", "Not", "CumSum", "NonZero", "Shape", "Range", "Loop", "If"}
BATCH = 3


@pytest.fixture(scope="module")
def static(
    checkpoints: dict[str, Path],
    family_checkpoints: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("static")
    trunk = open_clip_siglip.Trunk(48, 2, 12, 4.0, "gelu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip_siglip.TRUNKS, "vit_base_patch8_siglip", trunk)
        small_trunks(patch)
        return {
            name: export(str(path), root / name, static=BATCH)
            for name, path in (checkpoints | family_checkpoints).items()
        }


@pytest.mark.parametrize("name", [*VARIANTS, *FAMILIES])
def test_every_family_has_graphs_that_compilers_take(static: dict[str, Bundle], name: str) -> None:
    bundle = static[name]
    assert bundle.static_batch == BATCH
    for tower, files in bundle.precisions["fp32"].items():
        assert files.parity is not None
        assert files.parity.max_difference < 1e-5
        path = bundle.folder / files.graph
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path, load_external_data=False)
        assert not {node.op_type for node in model.graph.node} & REFUSED, tower
        assert {node.domain for node in model.graph.node} == {""}
        values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
        # Of every value but weights the shape is known, and none of it varies.
        named = {value.name for value in values}
        assert named >= {name for node in model.graph.node for name in node.output}
        for value in values:
            assert all(axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)
        for weight in model.graph.initializer:
            if weight.data_type == onnx.TensorProto.FLOAT and not weight.external_data:
                assert np.isfinite(onnx.numpy_helper.to_array(weight)).all()


@pytest.mark.parametrize("name", [*VARIANTS, *FAMILIES])
def test_the_runtime_answers_as_by_the_usual_graphs(
    static: dict[str, Bundle], bundles: dict[str, Path], families: dict[str, Path], name: str
) -> None:
    found = bareclip.load(static[name].folder)
    usual = bareclip.load((bundles | families)[name])
    images: list[Any] = [picture(40 + i, 60 - i) for i in range(BATCH + 2)]
    for count in (1, BATCH, BATCH + 2):
        difference = found.embed_images(images[:count]) - usual.embed_images(images[:count])
        assert np.abs(difference).max() < 1e-5
    assert np.abs(found.embed_texts(TEXTS) - usual.embed_texts(TEXTS)).max() < 1e-5
    assert found.embed_images([]).shape == usual.embed_images([]).shape
    alone = np.concatenate([found.embed_texts([text]) for text in TEXTS])
    np.testing.assert_array_equal(alone, found.embed_texts(TEXTS))


def test_what_fixed_shapes_cannot_be_is_refused(
    static: dict[str, Bundle], checkpoints: dict[str, Path], precise: Path, tmp_path: Path
) -> None:
    source, out = str(checkpoints["tiny"]), tmp_path / "out"
    with pytest.raises(PrecisionError, match="compiles them quantizes by itself"):
        export(source, out, precisions=Precisions(("fp32", "int8"), Data()), static=1)
    with pytest.raises(CheckpointError, match="leave --via optimum out"):
        export(source, out, "optimum", static=1)
    with pytest.raises(CheckpointError, match="--static 1 with --whole"):
        export(source, out, whole=True, static=2)
    with pytest.raises(PrecisionError, match="export the checkpoint without --static"):
        quantize(static["tiny"], "int8", Data())
    with pytest.raises(CheckpointError, match="takes 3 pictures always"):
        add_whole(static["tiny"])
    with pytest.raises(BundleError, match="takes 3 inputs at a time, .* any number"):
        pair(static["tiny"], Bundle.read(precise), out)
    assert not out.exists()


def test_a_graph_of_another_batch_than_its_bundle_says_is_refused(
    static: dict[str, Bundle], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(static["tiny"].folder, tmp_path / "copy"))
    manifest = (folder / "bundle.json").read_text()
    assert '"static_batch": 3' in manifest
    (folder / "bundle.json").write_text(manifest.replace('"static_batch": 3', '"static_batch": 4'))
    with pytest.raises(BundleError, match=r"shapes \[\[3, 32, 32, 3\], \[3, 20\]\], where"):
        bareclip.load(folder).embed_images([picture(40, 40)])


def test_the_command(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    run("export", checkpoints["tiny"], "-o", tmp_path / "one", "--static", "1", "--whole")
    made = Bundle.read(tmp_path / "one")
    assert made.static_batch == 1
    assert made.whole is not None
    described = run("info", made.folder).stdout
    assert "1 at a time, always" in described

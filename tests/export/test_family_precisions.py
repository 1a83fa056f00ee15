"""int8 and int4 of every family: near to fp32, and no vector depends on its batch."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import bareclip
from bareclip.bundle import Bundle
from bareclip.fidelity import LARGEST_BATCH_DIFFERENCE
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from tests.conftest import FAMILIES
from tests.variants import TEXTS, batch, picture

# Small random towers are coarser than trained ones of full size.
LEAST = {"int8": 0.98, "int4": 0.85}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Pictures and captions to calibrate with."""
    folder = tmp_path_factory.mktemp("photos")
    photos = []
    for index in range(16):
        path = folder / f"{index}.png"
        picture(90 + 3 * index, 120 - 4 * index, seed=index).save(path)
        photos.append((path, [f"a picture of {index} dogs"]))
    return Data(photos, [f"{word} cat on the beach" for word in "abcdefgh"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_familys_precisions(
    families: dict[str, Path], tmp_path: Path, data: Data, family: str, precision: str
) -> None:
    folder = Path(shutil.copytree(families[family], tmp_path / "bundle"))
    made = quantize(Bundle.read(folder), precision, data, force=True)
    for tower in made.fidelity[precision].towers.values():
        assert tower.mean_cosine > LEAST[precision]
        assert tower.batch_difference <= LARGEST_BATCH_DIFFERENCE
    clip = bareclip.load(folder, precision)
    images = list(batch(40, 5))
    together = clip.embed_images(images)
    for i, image in enumerate(images):
        np.testing.assert_allclose(clip.embed_images([image])[0], together[i], atol=1e-6)
    assert clip.embed_texts(TEXTS).shape == (len(TEXTS), made.embedding_dim)


def test_a_resnets_convolutions_stay_float(
    families: dict[str, Path], tmp_path: Path, data: Data
) -> None:
    """ConvInteger has no kernel for int8 weights on the CPU."""
    folder = Path(shutil.copytree(families["tiny-resnet"], tmp_path / "bundle"))
    quantize(Bundle.read(folder), "int8", data, force=True)
    graph = onnx.load(folder / "int8" / "vision.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert "Conv" in kinds
    assert kinds & {"MatMulIntegerToFloat", "MatMulNBits"}
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv":
            assert {weights[name] for name in node.input[1:]} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("family", ["tiny-resnet", "siglip", "tiny-siglip", "tiny-average"])
def test_fp16_graphs_are_written_and_loaded(
    families: dict[str, Path], tmp_path: Path, data: Data, family: str
) -> None:
    """The CPU runs them slowly, but it does, where there is no fused operator of CUDA's."""
    folder = Path(shutil.copytree(families[family], tmp_path / "bundle"))
    made = quantize(Bundle.read(folder), "fp16", data, force=True)
    for tower in made.fidelity["fp16"].towers.values():
        assert tower.min_cosine > 0.999

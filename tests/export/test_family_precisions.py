"""int8 and int4 of every family: near to fp32, and no vector depends on its batch."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bareclip
from bareclip.bundle import Bundle
from bareclip.measure.fidelity import LARGEST_BATCH_DIFFERENCE
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from tests.export.conftest import FAMILIES
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
    clip = bareclip.load(folder, precision=precision)
    images = list(batch(40, 5))
    together = clip.embed_images(images)
    for i, image in enumerate(images):
        np.testing.assert_allclose(clip.embed_images([image])[0], together[i], atol=1e-6)
    assert clip.embed_texts(TEXTS).shape == (len(TEXTS), made.embedding_dim)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_resnets_convolutions_are_stored_in_bytes(
    families: dict[str, Path], tmp_path: Path, data: Data, precision: str
) -> None:
    folder = Path(shutil.copytree(families["tiny-resnet"], tmp_path / "bundle"))
    quantize(Bundle.read(folder), precision, data, force=True)
    whole, small = (onnx.load(folder / p / "vision.onnx") for p in ("fp32", precision))
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    after = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    stored = {name.removesuffix(".int8") for name in after if after[name].ndim == 4} & {*before}
    large = {name for name, array in before.items() if array.ndim == 4 and array.size >= 1024}
    assert stored >= large
    for name in large:
        assert after[f"{name}.int8"].dtype == np.int8
        scales = after[f"{name}.scales"]
        # Half a step of a filter's own, and no more.
        error = np.abs(after[f"{name}.int8"] * scales - before[name])
        assert (error <= scales / 2 * 1.0001).all()
        assert np.allclose(127 * scales.ravel(), np.abs(before[name]).max(axis=(1, 2, 3)))


@pytest.mark.parametrize(
    "family",
    [
        *("tiny-resnet", "siglip", "tiny-siglip", "tiny-average", "tiny-convnext"),
        *("tiny-mobileclip", "tiny-eva02", "tiny-eva02-e", "tiny-pe"),
    ],
)
def test_fp16_graphs_are_written_and_loaded(
    families: dict[str, Path], tmp_path: Path, data: Data, family: str
) -> None:
    """The CPU runs them slowly, but it does, where there is no fused operator of CUDA's."""
    folder = Path(shutil.copytree(families[family], tmp_path / "bundle"))
    made = quantize(Bundle.read(folder), "fp16", data, force=True)
    for tower in made.fidelity["fp16"].towers.values():
        assert tower.min_cosine > 0.999

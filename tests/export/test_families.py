"""Every family we author, small: verified at export, and answering alone as in a batch."""

from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip.bundle import Bundle
from bareclip_export.errors import ParityError
from bareclip_export.export import export
from bareclip_export.tensors import Tensor
from bareclip_export.towers.attention_pooling import AttentionPooling
from bareclip_export.towers.modified_resnet import Convolution
from bareclip_export.towers.vision_transformer import VisionTransformer, _Average
from tests.export.conftest import FAMILIES
from tests.seeded import siglip
from tests.seeded.open_clip import write_checkpoint
from tests.variants import TEXTS, batch


@pytest.mark.parametrize("family", FAMILIES)
def test_each_tower_is_the_float64_forwards(families: dict[str, Path], family: str) -> None:
    for tower in Bundle.read(families[family]).precisions["fp32"].values():
        assert tower.parity is not None
        assert 0 < tower.parity.max_difference < 1e-6
        assert tower.parity.reference == "float64 NumPy"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_does_not_depend_on_its_batch(families: dict[str, Path], family: str) -> None:
    clip = bareclip.load(families[family])
    images, texts = list(batch(40, 5)), TEXTS
    together = clip.embed_images(images), clip.embed_texts(texts)
    for embed, given, vectors in (
        (clip.embed_images, images, together[0]),
        (clip.embed_texts, texts, together[1]),
    ):
        for i in range(len(given)):
            np.testing.assert_allclose(embed([given[i]])[0], vectors[i], atol=1e-6)  # type: ignore[operator]


def test_sigmoid_scoring_has_the_checkpoints_bias(families: dict[str, Path]) -> None:
    for family in ("siglip", "tiny-siglip"):
        bundle = Bundle.read(families[family])
        assert bundle.scoring.function == "sigmoid"
        assert bundle.scoring.logit_bias == -10
        assert bundle.scoring.logit_scale == pytest.approx(np.log(100))
        clip = bareclip.load(families[family])
        labels = ["cat", "dog"]
        images = clip.embed_images(list(batch(32, 3)))
        cosines = (images @ clip.embed_texts(labels).T).astype(np.float64)
        wanted = 1 / (1 + np.exp(10 - 100 * cosines))
        found = clip.classifier(labels, templates="{}").probabilities(images)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_text_of_fixed_length_is_filled_up_and_its_end_kept(families: dict[str, Path]) -> None:
    clip = bareclip.load(families["siglip"])
    recipe = clip.bundle.text_recipe()
    assert (recipe.fixed_length, recipe.context_length, recipe.pad_id) == (True, 16, 1)
    tokenizer = clip.texts.tokenizer
    assert tokenizer is not None
    ids = tokenizer.encode(["", "a cat", "cat " * 60], truncate=True)
    [(_, rows)] = tokenizer.batches(ids, 8)
    assert rows.shape == (3, 16)
    assert [row[-1] for row in rows] == [1, 1, 1]
    # Its processor lowers, drops punctuation and joins whitespace before its tokenizer.
    assert tokenizer.encode(["A photo,  of the CAT!"], True) == tokenizer.encode(
        ["a photo of the cat"], True
    )


MISTAKES = {
    "batch norm's mean": ("tiny-resnet", Convolution, "_fold_bias", lambda a: a * 0.99),
    "batch norm's variance": ("tiny-resnet", Convolution, "_fold_weight", lambda a: a * 1.01),
    "packed projections": ("tiny", Tensor, "rows", lambda t: Tensor(t.shape, lambda: t.read() * 0)),
    "attention pooling": ("siglip", AttentionPooling, "_project_probe", lambda a: a * 1.1),
    "patches' bias": (
        "siglip",
        VisionTransformer,
        "_fold_positions",
        lambda a: a * 1.01,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_folding_or_packing_fails_the_export(
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    family, kind, name, change = MISTAKES[mistake]
    right = getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda self, *a: change(right(self, *a)))
    with pytest.raises(ParityError, match="the vision tower differs"):
        export(str(family_checkpoints[family]), tmp_path / "bundle")


@pytest.mark.parametrize("family", ["tiny-average", "tiny-average-of-normed"])
def test_a_mistake_in_pooling_fails_the_export(
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
) -> None:
    right = _Average.__init__

    def with_class_token(self: _Average, tower: object) -> None:
        right(self, tower)  # type: ignore[arg-type]
        self._first = 0

    monkeypatch.setattr(_Average, "__init__", with_class_token)
    with pytest.raises(ParityError, match="the vision tower differs"):
        export(str(family_checkpoints[family]), tmp_path / "bundle")


def test_a_folded_mean_would_be_wrong_at_the_border(
    family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """The first convolution of a ResNet pads with zeros after normalisation: no graph folds it."""
    import onnx

    bundle = export(str(family_checkpoints["tiny-resnet"]), tmp_path / "bundle")
    graph = onnx.load(bundle.folder / "fp32" / "vision.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds[: kinds.index("Conv")] == ["Cast", "Mul", "Sub", "Transpose"]
    assert "BatchNormalization" not in kinds


def test_openclips_folder_wins_over_the_one_converted_from_it(tmp_path: Path) -> None:
    """As LAION's repositories have both, and the weights of each."""
    folder = write_checkpoint(tmp_path / "both")
    siglip.write_checkpoint(tmp_path / "other")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "other" / name).rename(folder / name)
    assert export(str(folder), tmp_path / "a").source.architecture == "open_clip VisionTransformer"
    (folder / "open_clip_model.safetensors").unlink()
    for name in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "other" / name).rename(folder / name)
    assert export(str(folder), tmp_path / "b").source.architecture == "SiglipModel"

"""Towers of convolutions: what folding gets wrong is seen, and a variant is refused by name."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import bareclip
from bareclip.bundle import ImageRecipe
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError, ParityError
from bareclip_export.export import export
from bareclip_export.layouts import read_model
from bareclip_export.tensors import Tensor
from bareclip_export.towers import convnext, fastvit, folding, squares
from bareclip_export.towers.stemmed_transformer import StemmedTransformer
from bareclip_export.towers.weights import LinearWeights
from tests.small_trunks import small_trunks


@pytest.fixture(autouse=True)
def _small_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    small_trunks(monkeypatch)


def transposed_squares(kernel: Tensor) -> Tensor:
    out, into, side, _ = kernel.shape
    return Tensor(
        (out, side * side * into), lambda: kernel.read().transpose(0, 3, 2, 1).reshape(out, -1)
    )


def unscaled(layer: LinearWeights, factor: Tensor) -> LinearWeights:
    return layer


def without_input(convolution: LinearWeights) -> LinearWeights:
    return convolution


def uncentred(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.eye(shape[0] * shape[1] * shape[2] * shape[3])[0].reshape(shape)


def of_values(layer: LinearWeights, recipe: ImageRecipe) -> LinearWeights:
    return layer


def no_positions(tower: StemmedTransformer) -> NDArray[np.float64]:
    return np.zeros((17, 48))


MISTAKES: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "the mean": (
        "tiny-convnext",
        squares.PixelSquares,
        "_fold_bias",
        lambda s: s._layer.bias.read(),
    ),
    "the order in a square": ("tiny-convnext", squares, "_of_squares", transposed_squares),
    "a block's scale": ("tiny-convnext", convnext, "scaled", unscaled),
    "an activation": ("tiny-convnext-mlp", convnext, "activate", lambda op, x, name: x),
    "a branch's place": ("tiny-mobileclip", folding, "_identity", uncentred),
    "a batch norm": ("tiny-mobileclip", folding, "_offset", lambda norm: norm.bias.float64()),
    "batch norm before attention": ("tiny-mobileclip", fastvit, "behind", unscaled),
    "positions' input": ("tiny-mobileclip-newer", fastvit, "with_input", without_input),
    "the pixels' scale": ("tiny-mobileclip-newer", fastvit, "_of_pixels", of_values),
    "the class token": ("tiny-mobileclip-b", StemmedTransformer, "_fold_positions", no_positions),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_folding_fails_the_export(
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    family, owner, name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(ParityError, match="the vision tower differs"):
        export(str(family_checkpoints[family]), tmp_path / "bundle")


def copied(checkpoint: Path, place: Path) -> Path:
    return Path(shutil.copytree(checkpoint, place / "checkpoint"))


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("tiny-convnext", {"timm_pool": "abs_attn"}, "timm_pool 'abs_attn' and timm_proj 'linear'"),
        ("tiny-convnext", {"timm_proj": None}, "timm_proj None; we author '' or 'avg', and"),
        ("tiny-convnext", {"image_size": 80}, "on images of 80; we author sizes that 32 divides"),
        (
            "tiny-convnext",
            {"timm_model_name": "convnextv2_tiny"},
            "timm model 'convnextv2_tiny'; we author convnext_tiny",
        ),
        (
            "tiny-mobileclip",
            {"timm_pool": "max"},
            "FastViT with timm_pool 'max' and timm_proj None",
        ),
        ("tiny-mobileclip", {"timm_proj": "linear"}, "timm_proj 'linear'; we author 'avg', and"),
        ("tiny-mobileclip", {"image_size": 80}, "FastViT on images of 80; we author sizes that 32"),
        ("tiny-mobileclip-b", {"timm_pool": "avg"}, "author vit_base_mci_seeded with 'token'"),
        ("tiny-mobileclip-b", {"image_size": 72}, "images of 72; we author sizes that 16 divides"),
        ("tiny-mobileclip", {"timm_model_name": "fastvit_sa12"}, "timm model 'fastvit_sa12'; we"),
        ("tiny-convnext", {"timm_proj": "mlp"}, "visual.head.mlp.fc1.weight' .* is missing"),
    ],
)
def test_another_variant_is_refused_by_name(
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    family: str,
    change: dict[str, Any],
    message: str,
) -> None:
    folder = copied(family_checkpoints[family], tmp_path)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        read_model(Checkpoint.open(str(folder)))


def test_branches_that_were_added_up_already_are_refused(
    family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(family_checkpoints["tiny-mobileclip"], tmp_path)
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["visual.trunk.stem.0.reparam_conv.weight"] = np.zeros((16, 3, 3, 3), np.float32)
    save_file(weights, folder / "open_clip_model.safetensors")
    with pytest.raises(CheckpointError, match="added up already .reparam_conv.; give the checkpo"):
        read_model(Checkpoint.open(str(folder)))


def test_what_fills_a_mobileclips_text_up_is_looked_at(families: dict[str, Path]) -> None:
    """open_clip pads with token 0 to the whole context, and no mask hides that."""
    clip = bareclip.load(families["tiny-mobileclip"])
    recipe = clip.bundle.text_recipe()
    assert (recipe.fixed_length, recipe.pad_id, recipe.context_length) == (True, 0, 24)
    [(_, ids)] = clip.texts.batches(["a cat"])
    assert ids.shape == (1, 24)
    assert not ids[0, 5:].any()
    ids[0, 20] = 7
    moved = np.abs(clip.texts.embed_tokens(ids) - clip.embed_texts(["a cat"])).max()
    assert moved > 1e-3
    causal = bareclip.load(families["tiny-mobileclip-b"]).bundle.text_recipe()
    assert not causal.fixed_length


def test_no_branch_is_left_in_a_mobileclips_graph(families: dict[str, Path]) -> None:
    """A convolution per one of the trained model's blocks, and no batch normalisation."""
    import onnx

    graph = onnx.load(families["tiny-mobileclip"] / "fp32" / "vision.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    # 3 in the stem; 2 in each join, and 4 in two squeezes; 1 of positions; in 6 blocks 6, and in 4
    # of them a mixer; 3 last.
    assert kinds["Conv"] == 3 + 2 * 3 + 4 + 1 + 6 + 4 + 3
    assert kinds["BatchNormalization"] == 0

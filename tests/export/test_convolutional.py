"""Towers of convolutions: what folding gets wrong is seen, and a variant is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError, ParityError
from bareclip_export.export import export
from bareclip_export.layouts import open_clip_convnext, read_model
from bareclip_export.tensors import Tensor
from bareclip_export.towers import convnext
from bareclip_export.towers.weights import LinearWeights
from tests.seeded.convolutional import CONVNEXT


@pytest.fixture(autouse=True)
def _small_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = open_clip_convnext.Trunk(*CONVNEXT["convnext_seeded"])
    monkeypatch.setitem(open_clip_convnext.TRUNKS, "convnext_seeded", trunk)


def transposed_squares(kernel: Tensor) -> Tensor:
    out, into, side, _ = kernel.shape
    return Tensor(
        (out, side * side * into), lambda: kernel.read().transpose(0, 3, 2, 1).reshape(out, -1)
    )


def unscaled(layer: LinearWeights, factor: Tensor) -> LinearWeights:
    return layer


MISTAKES: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "the mean": ("tiny-convnext", convnext.ConvNeXt, "_fold_bias", lambda t: t._patch.bias.read()),
    "the order in a square": ("tiny-convnext", convnext, "_of_squares", transposed_squares),
    "a block's scale": ("tiny-convnext", convnext, "scaled", unscaled),
    "an activation": ("tiny-convnext-mlp", convnext, "activate", lambda op, x, name: x),
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
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in family_checkpoints[family].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        read_model(Checkpoint.open(str(folder)))

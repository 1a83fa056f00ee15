"""Live against open_clip 3.3 and timm 1.0: towers of convolutions, small and of full size."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bareclip_export.export import export
from bareclip_export.open_clip_models import models
from tests.seeded.convolutional import CONVNEXT, FASTVIT, VIT
from tests.seeded.open_clip import CONFIGS, full_size, write_checkpoint
from tests.small_trunks import small_trunks

from .conftest import Corpus, long
from .open_clip_oracle import OpenClip, import_open_clip, openai_tokenizer
from .test_open_clip_files import agree

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

# As MobileCLIP's published weights have it, all but S3, S4 and L.
BYTES = {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear"}
PREPROCESS = {
    "tiny-convnext-mlp": {"interpolation": "bilinear", "resize_mode": "squash"},
    "tiny-mobileclip": BYTES,
    "tiny-mobileclip-newer": {"interpolation": "bilinear"},
}
SMALL = [name for name in CONFIGS if name.startswith(("tiny-convnext", "tiny-mobileclip"))]
FULL = ["convnext_base_w", "convnext_large_d_320"]
MOBILE = [
    *("MobileCLIP2-S0", "MobileCLIP2-B"),
    *long("MobileCLIP-S1", *(f"MobileCLIP2-{size}" for size in ("S2", "S3", "S4", "L-14"))),
]


def in_timm(name: str) -> Callable[..., Any]:
    """A small tower of timm's own classes."""
    from timm.models import convnext, fastvit, vision_transformer, vision_transformer_hybrid

    if name in CONVNEXT:
        blocks, widths = CONVNEXT[name]
        return partial(convnext._create_convnext, "convnext_tiny", depths=blocks, dims=widths)
    if name in FASTVIT:
        blocks, widths, ratio, attending, newer = FASTVIT[name]
        positions = partial(fastvit.RepConditionalPosEnc, spatial_shape=(7, 7))
        mixing = len(blocks) - attending
        given = {
            "layers": blocks,
            "embed_dims": widths,
            "mlp_ratios": (ratio,) * len(blocks),
            "downsamples": (False, *[True] * (len(blocks) - 1)),
            "se_downsamples": [not newer and index > 1 for index in range(len(blocks))],
            "pos_embs": (*[None] * mixing, *[positions] * attending),
            "token_mixers": (*["repmixer"] * mixing, *["attention"] * attending),
            "lkc_use_act": True,
            "stem_use_scale_branch": not newer,
        }
        if newer:
            given["norm_layer"] = partial(fastvit.LayerNorm2d, eps=1e-5)
        return partial(fastvit._create_fastvit, "fastvit_mci0", **given)
    width, layers, patch = VIT[name]
    given = {"embed_dim": width, "depth": layers, "img_size": 64}
    if patch:
        given |= {"patch_size": patch, "num_heads": 16, "pre_norm": True}
        given["norm_layer"] = partial(vision_transformer.LayerNorm, eps=1e-5)
        make = vision_transformer._create_vision_transformer
        return partial(make, "vit_large_patch14_clip_224", **given)
    stem = vision_transformer_hybrid.ConvStem(
        channels=(width // 4, width // 4, width),
        stride=(4, 2, 2),
        kernel_size=(4, 2, 2),
        padding=0,
        act_layer=torch.nn.GELU,
    )
    make = vision_transformer_hybrid._create_vision_transformer_hybrid
    given |= {"num_heads": 12, "no_embed_class": True, "embed_args": {"proj": False}}
    return partial(make, "vit_base_mci_224", backbone=stem, **given)


@pytest.fixture(autouse=True)
def _small_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    import_open_clip()
    from timm.models import _registry

    for name in (*CONVNEXT, *FASTVIT, *VIT):
        if name not in _registry._model_entrypoints:
            monkeypatch.setitem(_registry._model_entrypoints, name, in_timm(name))
    small_trunks(monkeypatch)


@pytest.mark.parametrize("name", [*SMALL, *long(*FULL)])
def test_a_bundle_answers_as_open_clip(tmp_path: Path, corpus: Corpus, name: str) -> None:
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder, name, PREPROCESS.get(name), tokenizer=openai_tokenizer())
    oracle = OpenClip.load(folder)
    export(str(folder), tmp_path / "bundle")
    agree(oracle, tmp_path / "bundle", corpus)


@pytest.mark.parametrize("name", MOBILE)
def test_a_mobileclip_of_full_size_answers_as_open_clip(
    tmp_path: Path, corpus: Corpus, name: str
) -> None:
    folder, given = tmp_path / "checkpoint", models()[name]
    config = full_size(given["model_cfg"] | {"custom_text": True})
    [published] = {json.dumps(tag.get("preprocess_cfg", {})) for tag in given["tags"].values()}
    write_checkpoint(folder, config, json.loads(published), tokenizer=openai_tokenizer())
    oracle = OpenClip.load(folder)
    export(str(folder), tmp_path / "bundle")
    agree(oracle, tmp_path / "bundle", corpus)

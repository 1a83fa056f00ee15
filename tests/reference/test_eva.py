"""Live against open_clip 3.3 and timm 1.0: EVA, EVA-02 and the Perception Encoder."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bareclip_export.export import export
from bareclip_export.layouts import open_clip_eva, open_clip_pe
from bareclip_export.open_clip_models import models
from tests.seeded.eva import EVA, PE, add_trunk
from tests.seeded.open_clip import CONFIGS, full_size, write_checkpoint
from tests.small_trunks import small_trunks

from .conftest import Corpus, long
from .open_clip_oracle import OpenClip, import_open_clip, openai_tokenizer
from .test_open_clip_files import agree

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

SMALL = [name for name in CONFIGS if name.startswith(("tiny-eva", "tiny-pe"))]
# As the Perception Encoder's published weights have it.
SQUASHED = {
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def in_timm(name: str) -> Callable[..., Any]:
    """A small tower of timm's own class, and otherwise as the one of that kind."""
    from timm.models import eva

    width, layers, hidden, patch, size = (EVA | PE)[name]
    kind = {
        "eva_giant": "eva_giant_patch14_224",
        "eva02_base": "eva02_base_patch16_clip_224",
        "eva02_enormous": "eva02_enormous_patch14_clip_224",
        "vit_pe_core_tiny": "vit_pe_core_tiny_patch16_384",
        "vit_pe_core_gigantic": "vit_pe_core_gigantic_patch14_448",
    }[name.partition("_patch")[0]]
    given = {"embed_dim": width, "depth": layers, "mlp_ratio": hidden / width + 1e-9}
    given |= {"patch_size": patch, "img_size": size}
    if name in PE:
        # Places are as they are in all published ones.
        given["ref_feat_shape"] = (size // patch, size // patch)
    return partial(getattr(eva, kind), **given)


@pytest.fixture(autouse=True)
def _small_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    import_open_clip()
    from timm.models import _registry

    for name in (*EVA, *PE):
        if name not in _registry._model_entrypoints:
            monkeypatch.setitem(_registry._model_entrypoints, name, in_timm(name))
    small_trunks(monkeypatch)


@pytest.mark.parametrize("name", [*SMALL, *long("EVA02-B-16", "PE-Core-T-16-384")])
def test_a_bundle_answers_as_open_clip(tmp_path: Path, corpus: Corpus, name: str) -> None:
    if name in CONFIGS:
        compare(tmp_path, corpus, name, CONFIGS[name], SQUASHED if "pe" in name else {})
    else:
        compare(tmp_path, corpus, name, *published(name))


@pytest.mark.parametrize(
    "name",
    long("EVA01-g-14", "EVA02-L-14-336", "EVA02-E-14-plus", "PE-Core-L-14-336",
         "PE-Core-bigG-14-448"),
)  # fmt: skip
def test_two_blocks_of_a_large_one(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Two blocks of each tower, of the whole width."""
    from timm.models import _registry, eva

    config, preprocess = published(name)
    config["text_cfg"] |= {"layers": 2}
    model = config["vision_cfg"]["timm_model_name"]
    layout, seeded = (open_clip_pe, PE) if model in PE else (open_clip_eva, EVA)
    monkeypatch.setitem(layout.TRUNKS, model, replace(layout.TRUNKS[model], layers=2))
    monkeypatch.setitem(seeded, model, (seeded[model][0], 2, *seeded[model][2:]))
    made = partial(getattr(eva, model), depth=2)
    monkeypatch.setitem(_registry._model_entrypoints, model, made)
    compare(tmp_path, corpus, name, config, preprocess)


def published(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """model_cfg, with weights' own preprocess_cfg."""
    given = models()[name]
    [preprocess] = {json.dumps(tag.get("preprocess_cfg", {})) for tag in given["tags"].values()}
    return full_size(given["model_cfg"] | {"custom_text": True}), json.loads(preprocess)


def compare(
    place: Path, corpus: Corpus, name: str, config: dict[str, Any], preprocess: dict[str, Any]
) -> None:
    folder = write_checkpoint(
        place / "checkpoint", config, preprocess, tokenizer=openai_tokenizer()
    )
    oracle = OpenClip.load(folder)
    export(str(folder), place / name)
    agree(oracle, place / name, corpus)


@pytest.mark.parametrize("name", [*open_clip_eva.TRUNKS, *open_clip_pe.TRUNKS])
def test_every_tower_has_timms_sizes(name: str) -> None:
    """Of full size, without its numbers."""
    import timm

    encoder = name in PE
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=64, global_pool="map" if encoder else "token")
    found: dict[str, tuple[int, ...]] = {}
    add_trunk(found, 64, {"timm_model_name": name})
    assert {f"visual.trunk.{n}": tuple(t.shape) for n, t in model.state_dict().items()} == found
    trunk = (open_clip_pe.TRUNKS if encoder else open_clip_eva.TRUNKS)[name]
    assert len(model.blocks) == trunk.layers
    assert {block.attn.num_heads for block in model.blocks} == {trunk.heads}
    assert model.patch_embed.img_size == (trunk.size, trunk.size)
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {
        1e-5 if encoder else 1e-6
    }
    rope, grid = model.rope, trunk.size // trunk.patch
    if isinstance(trunk, open_clip_pe.Trunk):
        assert (rope.grid_indexing, rope.grid_offset) == ("xy", trunk.class_token)
        assert tuple(rope.ref_feat_shape) == (grid, grid)
        assert model.attn_pool.num_heads == 8
    elif trunk.kind == "rotary":
        assert (rope.grid_indexing, rope.grid_offset) == ("ij", 0)
        assert tuple(rope.ref_feat_shape) == (16, 16)
    else:
        assert rope is None

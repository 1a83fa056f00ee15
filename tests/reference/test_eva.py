"""Live against open_clip 3.3 and timm 1.0: EVA, EVA-02 and the Perception Encoder."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bareclip_export.export import export
from bareclip_export.open_clip_models import models
from tests.seeded.eva import EVA, PE
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
    folder, config = tmp_path / "checkpoint", CONFIGS.get(name)
    preprocess = SQUASHED if "pe" in name else {}
    if config is None:
        given = models()[name]
        config = full_size(given["model_cfg"] | {"custom_text": True})
        [published] = {json.dumps(tag.get("preprocess_cfg", {})) for tag in given["tags"].values()}
        preprocess = json.loads(published)
    write_checkpoint(folder, config, preprocess, tokenizer=openai_tokenizer())
    oracle = OpenClip.load(folder)
    export(str(folder), tmp_path / name)
    agree(oracle, tmp_path / name, corpus)

"""Fixtures: checkpoints of every family, and their bundles."""

from pathlib import Path

import pytest

from bareclip_export.export import export
from bareclip_export.layouts import open_clip_siglip
from tests.seeded import bert, open_clip, siglip
from tests.small_trunks import small_trunks

OPEN_CLIP = [name for name in open_clip.CONFIGS if name.startswith("tiny")]
BERT = ["open_clip xlm-roberta", "open_clip bert", "chinese_clip"]
# Small ones of every family but CLIP in Hugging Face's layout, which VARIANTS has.
FAMILIES = [*OPEN_CLIP, "siglip", *BERT]


@pytest.fixture(scope="session")
def family_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    made = {name: open_clip.write_checkpoint(root / name, name) for name in OPEN_CLIP}
    made |= {
        "siglip": siglip.write_checkpoint(root / "siglip"),
        "open_clip xlm-roberta": bert.write_open_clip(root / "open_clip xlm-roberta"),
        "chinese_clip": bert.write_chinese_clip(root / "chinese_clip"),
    }
    pooled = {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"}
    return made | {"open_clip bert": bert.write_open_clip(root / "bert", "bert", **pooled)}


@pytest.fixture(scope="session")
def families(
    family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A bundle of each, exported once."""
    root = tmp_path_factory.mktemp("family-bundles")
    trunk = open_clip_siglip.Trunk(48, 2, 12, 4.0, "gelu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip_siglip.TRUNKS, "vit_base_patch8_siglip", trunk)
        small_trunks(patch)
        return {
            name: export(str(path), root / name).folder for name, path in family_checkpoints.items()
        }

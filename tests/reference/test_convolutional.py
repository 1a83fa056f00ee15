"""Live against open_clip 3.3 and timm 1.0: towers of convolutions, small and of full size."""

from pathlib import Path

import pytest

from bareclip_export.export import export
from bareclip_export.layouts import open_clip_convnext
from tests.seeded.convolutional import CONVNEXT
from tests.seeded.open_clip import write_checkpoint

from .conftest import Corpus
from .open_clip_oracle import OpenClip, import_open_clip, openai_tokenizer
from .test_open_clip_files import agree

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

PREPROCESS = {
    "tiny-convnext-mlp": {"interpolation": "bilinear", "resize_mode": "squash"},
}
FULL = ["convnext_base_w", "convnext_large_d_320"]


@pytest.fixture
def small_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's own classes under names of ours, with sizes of ours."""
    import_open_clip()
    from timm.models import _registry, convnext

    blocks, widths = CONVNEXT["convnext_seeded"]

    def convnext_seeded(pretrained: bool = False, **given: object) -> object:
        sizes = {"depths": blocks, "dims": widths}
        return convnext._create_convnext("convnext_tiny", pretrained=False, **sizes, **given)

    monkeypatch.setitem(_registry._model_entrypoints, "convnext_seeded", convnext_seeded)
    trunk = open_clip_convnext.Trunk(blocks, widths)
    monkeypatch.setitem(open_clip_convnext.TRUNKS, "convnext_seeded", trunk)


@pytest.mark.parametrize("name", ["tiny-convnext", "tiny-convnext-mlp", *FULL])
@pytest.mark.usefixtures("small_trunks")
def test_a_bundle_answers_as_open_clip(tmp_path: Path, corpus: Corpus, name: str) -> None:
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder, name, PREPROCESS.get(name), tokenizer=openai_tokenizer())
    oracle = OpenClip.load(folder)
    export(str(folder), tmp_path / "bundle")
    agree(oracle, tmp_path / "bundle", corpus)

"""Single towers as transformers saves them, against transformers' own answers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmarks.seeded import write_checkpoint

import bareclip
from bareclip_export.export import export
from tests.variants import TEXTS, batch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("tower", ["Vision", "Text"])
def test_a_tower_answers_as_transformers(tmp_path: Path, tower: str) -> None:
    whole = write_checkpoint(tmp_path / "whole")
    kind = getattr(transformers, f"CLIP{tower}ModelWithProjection")
    model = kind.from_pretrained(whole).eval()
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    for name in ("preprocessor_config.json", "tokenizer.json"):
        shutil.copy(whole / name, folder)
    export(str(folder), tmp_path / "bundle")
    clip = bareclip.load(tmp_path / "bundle", reading="as_stored")
    with torch.inference_mode():
        if tower == "Vision":
            pictures = batch(32, 4)
            processor = transformers.CLIPImageProcessor.from_pretrained(folder)
            given = processor(list(pictures), return_tensors="pt")
            wanted, found = model(**given).image_embeds, clip.embed_images(list(pictures))
        else:
            tokenizer = transformers.CLIPTokenizerFast.from_pretrained(folder, model_max_length=24)
            given = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
            wanted, found = model(**given).text_embeds, clip.embed_texts(TEXTS)
    np.testing.assert_allclose(found, torch.nn.functional.normalize(wanted).numpy(), atol=1e-5)

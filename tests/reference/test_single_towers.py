"""Single towers as transformers saves them, against transformers' own answers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip_export.export import export
from tests.seeded.clip import SIZES, write_checkpoint
from tests.variants import TEXTS

from .conftest import Corpus

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("size", ["tiny", "ViT-B/32"])
@pytest.mark.parametrize("tower", ["Vision", "Text"])
def test_a_tower_answers_as_transformers(
    tmp_path: Path, corpus: Corpus, tower: str, size: str
) -> None:
    whole = write_checkpoint(tmp_path / "whole", SIZES[size])
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
            pictures = [Image.open(path).convert("RGB") for path in corpus.images[::10]]
            processor = transformers.CLIPImageProcessor.from_pretrained(folder)
            given = processor(pictures, return_tensors="pt")
            wanted, found = model(**given).image_embeds, clip.embed_images(pictures)
        else:
            texts = [*TEXTS, *corpus.texts[::10]]
            tokenizer = transformers.CLIPTokenizerFast.from_pretrained(
                folder, model_max_length=SIZES[size].context
            )
            given = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            wanted, found = model(**given).text_embeds, clip.embed_texts(texts)
    np.testing.assert_allclose(found, torch.nn.functional.normalize(wanted).numpy(), atol=1e-5)

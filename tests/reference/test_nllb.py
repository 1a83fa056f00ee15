"""Live: NLLB-CLIPs by open_clip, in the languages that its tokenizer is told."""

from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip_export.export import export
from bareclip_export.layouts import bert as layout
from tests.seeded import nllb

from .conftest import Corpus, long
from .open_clip_oracle import OpenClip
from .test_bert import LANGUAGES, TEXTS, know, same_ids
from .test_transformers import show
from .trained_tokenizers import train_nllb

pytest.importorskip("torch")
pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

SMALL = "facebook/nllb-seeded"
BASE, LARGE = nllb.NAMED
MEAN = {"hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}


@pytest.mark.parametrize("model", [SMALL, "mean", *long(BASE, LARGE)])
def test_texts_in_several_languages(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    small = model in (SMALL, "mean")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    rows = train_nllb(folder, [*corpus.texts, *LANGUAGES * 3], 900)
    config = dict(nllb.SMALL if small else nllb.NAMED[model])
    config["vocab_size"] = max(rows, config.get("vocab_size", 0))
    if small:
        nllb.write_open_clip(folder, **(MEAN if model == "mean" else {}))
    else:
        nllb.write_open_clip(folder, model, context_length=77)
        monkeypatch.setitem(layout.MODELS, model, config)
    know(monkeypatch, SMALL if small else model, config)
    oracle = OpenClip.load(folder)
    export(str(folder), tmp_path / "bundle")
    some = [*LANGUAGES, *TEXTS[len(LANGUAGES) :: 9], *corpus.texts[::40]]
    for language in (None, "kor_Hang", "zho_Hans", "arb_Arab", "jpn_Jpan"):
        clip = bareclip.load(tmp_path / "bundle", reading="as_stored", language=language)
        if language is not None:
            # open_clip's set_language is undone by each call of transformers 4.57's tokenizer.
            oracle.tokenizer.tokenizer.src_lang = language
        same_ids(clip, TEXTS, [oracle.ids(text) for text in TEXTS])
        wanted, found = oracle.embed_texts(some), clip.embed_texts(some)
        show(tmp_path / model.replace("/", "-"), f"{language}, {len(some)} texts", found, wanted)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    images = [*corpus.images[::20]]
    np.testing.assert_allclose(clip.embed_images(images), oracle.embed_images(images), atol=1e-5)

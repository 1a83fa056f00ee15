"""OpenAI's own weights against what OpenAI's own code answered. Downloads 600 MB."""

import json
from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip_export.export import export

NAME = "openai/clip-vit-base-patch32"


@pytest.mark.network
@pytest.mark.filterwarnings("ignore")
def test_franz_kafka(data: Path, tmp_path: Path) -> None:
    goldens = json.loads((data / "openai-goldens.json").read_text())
    wanted = goldens[NAME]
    export(NAME, tmp_path / "bundle")
    clip = bareclip.load(tmp_path / "bundle", reading="as_stored")
    image = data / goldens["image"]
    vectors, texts = clip.embed_images([image]), clip.embed_texts(goldens["texts"])
    scale = np.exp(clip.bundle.scoring.logit_scale)
    # Hugging Face floors the crop's offset where OpenAI rounds it: a pixel at most.
    np.testing.assert_allclose(scale * vectors @ texts.T, [wanted["logits"]], atol=0.05)
    first = np.array(wanted["text0_first_five"])
    ratio = texts[0, :5] / first
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)
    [predictions] = clip.classify(image, goldens["texts"], templates="{}")
    assert predictions[0].label == goldens["texts"][0]
    assert predictions[0].probability == pytest.approx(wanted["probabilities"][0], abs=1e-3)

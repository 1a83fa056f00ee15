"""bareclip import of graphs that PyTorch exported, against transformers on the same weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip_export.export import import_graphs
from tests.seeded.clip import SIZES, write_checkpoint
from tests.variants import TEXTS

from .conftest import Corpus

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]


class _Vision(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Any) -> Any:
        return self.model.get_image_features(pixel_values=pixel_values)


class _Text(_Vision):
    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize("size", ["tiny", "ViT-B/32"])
def test_a_folder_of_graphs_answers_as_transformers(
    tmp_path: Path, corpus: Corpus, size: str
) -> None:
    sizes = SIZES[size]
    folder = write_checkpoint(tmp_path / "clip", sizes)
    model = transformers.CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
    (folder / "model.safetensors").unlink()
    (folder / "onnx").mkdir()
    pixels, ids = torch.zeros(2, 3, sizes.image, sizes.image), torch.ones(2, 9, dtype=torch.int64)
    rows, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=sizes.context)
    for tower, given, names, output, shapes in (
        (_Vision(model), (pixels,), ["pixel_values"], "image_embeds", ({0: rows},)),
        (
            _Text(model),
            (ids, torch.ones_like(ids)),
            ["input_ids", "attention_mask"],
            "text_embeds",
            ({0: rows, 1: tokens}, {0: rows, 1: tokens}),
        ),
    ):
        torch.onnx.export(
            tower,
            given,
            folder / "onnx" / f"{type(tower).__name__[1:].lower()}_model.onnx",
            input_names=names,
            output_names=[output],
            dynamic_shapes=shapes,
            dynamo=True,
        )
    import_graphs(str(folder), tmp_path / "bundle")
    clip = bareclip.load(tmp_path / "bundle", reading="as_stored")
    pictures = [Image.open(path).convert("RGB") for path in corpus.images[::10]]
    words = [*TEXTS, *corpus.texts[::10]]
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(
        folder, model_max_length=sizes.context
    )
    with torch.inference_mode():
        images = model.get_image_features(**processor(pictures, return_tensors="pt"))
        texts = model.get_text_features(
            **tokenizer(words, padding=True, truncation=True, return_tensors="pt")
        )
    normalize = torch.nn.functional.normalize
    np.testing.assert_allclose(clip.embed_images(pictures), normalize(images).numpy(), atol=1e-5)
    np.testing.assert_allclose(clip.embed_texts(words), normalize(texts).numpy(), atol=1e-5)

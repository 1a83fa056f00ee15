"""Full-size checkpoints that transformers itself saves, and what it answers for them."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.seeded.clip import SIZES, Sizes, make_tokenizer
from tests.variants import TEXTS, picture

from .open_clip_oracle import describe_no_operators

torch = pytest.importorskip("torch")
# transformers imports torchvision where it is installed, as open_clip wants it.
describe_no_operators()
transformers = pytest.importorskip("transformers")


def long(*values: str) -> list[Any]:
    """Parameters whose tests take minutes each, and run where ``BARECLIP_FULL_SIZE`` is set."""
    skip = not os.environ.get("BARECLIP_FULL_SIZE")
    mark = pytest.mark.skipif(skip, reason="takes minutes; BARECLIP_FULL_SIZE=1 runs it")
    return [pytest.param(value, marks=mark) for value in values]


@dataclass(frozen=True)
class Oracle:
    """A CLIPModel in transformers, with its PIL processor and its tokenizer."""

    folder: Path
    model: Any
    processor: Any
    tokenizer: Any

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        raw = self.processor(
            image,
            do_rescale=False,
            do_normalize=False,
            return_tensors="np",
            input_data_format="channels_last",
        )
        return raw["pixel_values"][0].transpose(1, 2, 0).astype(np.uint8)

    @cache  # noqa: B019 (a few, and they live as long as the session)
    def embed_images(self, paths: tuple[Path, ...]) -> NDArray[np.float32]:
        rows = []
        with torch.inference_mode():
            for image in map(Image.open, paths):
                given = self.processor(
                    image.convert("RGB"), return_tensors="pt", input_data_format="channels_last"
                )
                rows.append(self.model.get_image_features(**given))
        return torch.nn.functional.normalize(torch.cat(rows)).numpy()

    @cache  # noqa: B019
    def embed_texts(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), 32):
                given = self.tokenizer(
                    texts[start : start + 32],
                    padding=True,
                    truncation=True,
                    return_tensors="pt",
                )
                rows.append(self.model.get_text_features(**given))
        return torch.nn.functional.normalize(torch.cat(rows)).numpy()


@pytest.fixture(scope="session")
def oracle() -> Callable[[Sizes, Path], Oracle]:
    """Fills an empty folder as transformers would, with OpenAI's files where they are."""

    def make(sizes: Sizes, folder: Path) -> Oracle:
        import os

        real = os.environ.get("BARECLIP_DATA")
        if real:
            shutil.copy(Path(real) / "clip-bpe" / "tokenizer.json", folder)
        else:
            (folder / "tokenizer.json").write_text(json.dumps(make_tokenizer()))
        tokenizer = transformers.CLIPTokenizerFast.from_pretrained(
            folder, model_max_length=sizes.context
        )
        torch.manual_seed(0)
        config = transformers.CLIPConfig(
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": sizes.text.width,
                "intermediate_size": sizes.text.mlp,
                "num_hidden_layers": sizes.text.layers,
                "num_attention_heads": sizes.text.heads,
                "max_position_embeddings": sizes.context,
                "hidden_act": sizes.activation,
                "eos_token_id": 2 if sizes.legacy_end else tokenizer.eos_token_id,
                "bos_token_id": tokenizer.bos_token_id,
            },
            vision_config={
                "hidden_size": sizes.vision.width,
                "intermediate_size": sizes.vision.mlp,
                "num_hidden_layers": sizes.vision.layers,
                "num_attention_heads": sizes.vision.heads,
                "image_size": sizes.image,
                "patch_size": sizes.patch,
                "hidden_act": sizes.activation,
            },
            projection_dim=sizes.embedding,
        )
        model = transformers.CLIPModel(config).eval()
        with torch.no_grad():
            model.logit_scale.fill_(np.log(100.0))
        model.save_pretrained(folder)
        processor = transformers.CLIPImageProcessor(
            size={"shortest_edge": sizes.image},
            crop_size={"height": sizes.image, "width": sizes.image},
        )
        processor.save_pretrained(folder)
        return Oracle(folder, model, processor, tokenizer)

    return make


@pytest.fixture(scope="session")
def vit_b32(
    oracle: Callable[[Sizes, Path], Oracle], tmp_path_factory: pytest.TempPathFactory
) -> Oracle:
    return oracle(SIZES["ViT-B/32"], tmp_path_factory.mktemp("vit-b32"))


@dataclass(frozen=True)
class Corpus:
    """Pictures and texts: the 85 photos and their captions where they are, else drawn ones."""

    images: tuple[Path, ...]
    texts: tuple[str, ...]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    import os

    real = os.environ.get("BARECLIP_DATA")
    if real:
        photos = json.loads((Path(real) / "photos" / "captions.json").read_text())
        return Corpus(
            tuple(Path(real) / "photos" / "images" / photo["file"] for photo in photos),
            tuple(caption for photo in photos for caption in photo["captions"]),
        )
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{index}.png" for index in range(8)]
    for index, path in enumerate(paths):
        picture(300 + 40 * index, 400 - 30 * index, seed=index).save(path)
    texts = (*TEXTS, *(f"{word} picture of a cat" for word in "abcdefgh"))
    return Corpus(tuple(paths), texts)


@pytest.fixture(autouse=True)
def _cache_of_one_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached towers of full size, several gigabytes in all, go when their test has passed."""
    monkeypatch.setenv("BARECLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """transformers and torch warn of their own internals; ours are errors elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

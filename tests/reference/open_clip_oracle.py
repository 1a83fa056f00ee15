"""What open_clip itself answers for a folder in its layout.

open_clip wants torchvision, whose Python describes its C++ operators to PyTorch and fails where
a CPU build of PyTorch has none of them. No tower and no transform calls one, so the module
that describes them is replaced by an empty one before torchvision is imported.
"""

import importlib
import importlib.util
import os
import sys
import types
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

torch = pytest.importorskip("torch")


def describe_no_operators() -> None:
    """Lets torchvision be imported beside any PyTorch."""
    undescribed = "torchvision._meta_registrations"
    sys.modules.setdefault(undescribed, types.ModuleType(undescribed))


def import_open_clip() -> Any:
    """The open_clip module; skips where it is not installed.

    BARECLIP_OPEN_CLIP names a folder that it and torchvision are installed in, apart from
    transformers, which would import that torchvision in processes that tests start.
    """
    apart = os.environ.get("BARECLIP_OPEN_CLIP")
    if apart and apart not in sys.path:
        sys.path.append(apart)
    for package in ("open_clip", "torchvision", "timm"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; .ci/run says how")
    describe_no_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("open_clip")


def openai_tokenizer() -> dict[str, Any]:
    """CLIP's tokens and merges from open_clip's package, as a tokenizer.json holds them."""
    simple = import_open_clip().tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(token, token): number for token, number in simple.encoder.items()}
    merges = [list(pair) for pair in simple.bpe_ranks]
    return {
        "model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges}
    }


@dataclass(frozen=True)
class OpenClip:
    """A model, its evaluation transform and its tokenizer, loaded by open_clip from a folder."""

    model: Any
    transform: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> "OpenClip":
        open_clip = import_open_clip()
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        return cls(model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}"))

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """(size, size, 3), all but the normalisation."""
        for step in self.transform.transforms[:-1]:
            image = step(image)
        return np.rint(np.asarray(image).transpose(1, 2, 0) * 255).astype(np.uint8)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer([text])[0].tolist()

    def embed_images(self, paths: list[Path]) -> NDArray[np.float32]:
        with torch.inference_mode():
            rows = [self.model.encode_image(self.transform(Image.open(p))[None]) for p in paths]
            return torch.nn.functional.normalize(torch.cat(rows)).numpy()

    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        with torch.inference_mode():
            rows = [
                self.model.encode_text(self.tokenizer(texts[start : start + 16]))
                for start in range(0, len(texts), 16)
            ]
            return torch.nn.functional.normalize(torch.cat(rows)).numpy()

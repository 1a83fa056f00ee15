"""Libraries on PyTorch, in float32 where nothing else is said.

OMP_WAIT_POLICY, set outside, says how its threads wait.
"""

import sys
import types
from pathlib import Path
from typing import Any

import torch
from peer import BATCH, Peer, Settings, Vectors, joined, several
from PIL import Image


class Transformers(Peer):
    about = "SDPA"
    compiled = False
    dtype = torch.float32

    def __init__(self, folder: Path, settings: Settings) -> None:
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        torch.set_num_threads(settings.threads)
        self.model = CLIPModel.from_pretrained(folder / "checkpoint", dtype=self.dtype).eval()
        self.processor = CLIPImageProcessor.from_pretrained(folder / "checkpoint")
        self.tokenizer = CLIPTokenizerFast.from_pretrained(folder / "checkpoint")
        self.images = self.model.get_image_features
        if self.compiled:
            self.images = torch.compile(self.images)

    def pixels(self, paths: list[str]) -> Any:
        return [self._read(part) for part in several(paths, BATCH)]

    def encode(self, batches: Any) -> Vectors:
        with torch.inference_mode():
            found = [self.images(pixel_values=batch.to(self.dtype)) for batch in batches]
            return torch.cat(found).float().numpy()

    def photos(self, paths: list[str], batch: int) -> Vectors:
        return joined(paths, batch, lambda part: self.encode([self._read(part)]))

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        with torch.inference_mode():
            return joined(
                texts,
                batch,
                lambda part: self.model.get_text_features(
                    **self.tokenizer(part, padding=True, truncation=True, return_tensors="pt")
                ).float(),
            )

    def _read(self, paths: list[str]) -> Any:
        images = [Image.open(path).convert("RGB") for path in paths]
        return self.processor(images, return_tensors="pt")["pixel_values"]


class Compiled(Transformers):
    about = "torch.compile, SDPA"
    batches = (BATCH,)  # it compiles for each shape
    compiled = True


class Bf16(Transformers):
    about = "bf16, SDPA"
    dtype = torch.bfloat16


class OpenClip(Peer):
    def __init__(self, folder: Path, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        # Its operators, of which none is used here, are not there beside a CPU build of PyTorch.
        undescribed = "torchvision._meta_registrations"
        sys.modules[undescribed] = types.ModuleType(undescribed)
        import open_clip

        place = f"local-dir:{folder / 'open_clip'}"
        self.model, self.transform = open_clip.create_model_from_pretrained(place)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(place)

    def pixels(self, paths: list[str]) -> Any:
        return [self._read(part) for part in several(paths, BATCH)]

    def encode(self, batches: Any) -> Vectors:
        with torch.inference_mode():
            return torch.cat([self.model.encode_image(batch) for batch in batches]).numpy()

    def photos(self, paths: list[str], batch: int) -> Vectors:
        return joined(paths, batch, lambda part: self.encode([self._read(part)]))

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        with torch.inference_mode():
            return joined(texts, batch, lambda part: self.model.encode_text(self.tokenizer(part)))

    def _read(self, paths: list[str]) -> Any:
        return torch.stack([self.transform(Image.open(path).convert("RGB")) for path in paths])

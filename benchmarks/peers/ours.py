"""bareclip itself, by what its users call."""

from pathlib import Path
from typing import Any

import numpy as np
from peer import BATCH, Peer, Settings, Vectors, several

import bareclip


class Bareclip(Peer):
    batches = ()
    precision = "fp32"
    device = "cpu"

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.about = self.precision if self.device == "cpu" else f"{self.precision}, {self.device}"
        self.clip = bareclip.load(
            folder / "bareclip",
            precision=self.precision,
            device=self.device,
            threads=settings.threads,
            spinning=settings.spinning,
            reading="as_stored",
        )

    def pixels(self, paths: list[str]) -> Any:
        rows = [*self.clip.images.pixels(Path(path) for path in paths)]
        return [np.stack(part) for part in several(rows, BATCH)]

    def encode(self, batches: Any) -> Vectors:
        return np.concatenate([self.clip.images.embed_pixels(batch) for batch in batches])

    def photos(self, paths: list[str], batch: int) -> Vectors:
        return self.clip.embed_images([Path(path) for path in paths])

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        return self.clip.embed_texts(texts)


class BareclipInt8(Bareclip):
    precision = "int8"


class OnOpenVino(Bareclip):
    device = "openvino"


class OnOpenVinoBf16(OnOpenVino):
    precision = "bf16"


class OnOpenVinoInt8(OnOpenVino):
    precision = "int8"

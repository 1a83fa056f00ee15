"""OpenVINO, reading the graphs that bareclip exports, as its own package does."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from peer import BATCH, Peer, Settings, Vectors, joined, several
from PIL import Image
from transformers import CLIPImageProcessor, CLIPTokenizerFast


class OpenVino(Peer):
    """Reads our graphs; its threads wait as it chooses."""

    graphs = "fp32"
    precision = "f32"

    def __init__(self, folder: Path, settings: Settings) -> None:
        version = openvino.__version__.partition("-")[0]
        self.about = f"{version}, our {self.graphs} graphs at {self.precision}"
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": settings.threads,
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        core, graphs = openvino.Core(), folder / "bareclip" / self.graphs
        self.images, self.texts = (
            core.compile_model(graphs / f"{tower}.onnx", "CPU", properties)
            for tower in ("vision", "text")
        )
        # The graphs normalise pixels themselves.
        self.processor = CLIPImageProcessor.from_pretrained(
            folder / "checkpoint", do_rescale=False, do_normalize=False
        )
        self.tokenizer = CLIPTokenizerFast.from_pretrained(folder / "checkpoint")

    def pixels(self, paths: list[str]) -> Any:
        return [self._read(part) for part in several(paths, BATCH)]

    def encode(self, batches: Any) -> Vectors:
        # What it answers lies in its own memory until the next call.
        return np.concatenate([self.images([batch])[0].copy() for batch in batches])

    def photos(self, paths: list[str], batch: int) -> Vectors:
        return joined(paths, batch, lambda part: self.encode([self._read(part)]))

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        return joined(texts, batch, lambda part: self.texts([self._tokens(part)])[0].copy())

    def _read(self, paths: list[str]) -> Any:
        images = [Image.open(path).convert("RGB") for path in paths]
        found = self.processor(images, return_tensors="np", data_format="channels_last")
        return found["pixel_values"].astype(np.uint8)

    def _tokens(self, texts: list[str]) -> Any:
        given = self.tokenizer(texts, padding=True, truncation=True, return_tensors="np")
        return given["input_ids"].astype(np.int64)


class OpenVinoBf16(OpenVino):
    precision = "bf16"


class OpenVinoInt8(OpenVino):
    """What is not 8 bits runs at bf16 where the processor has it, as OpenVINO does by itself."""

    graphs = "int8"
    precision = "bf16"

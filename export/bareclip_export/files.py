"""Names of the files that checkpoints are made of, by layout."""

from typing import Literal

Layout = Literal["huggingface", "open_clip"]

CONFIGS: dict[Layout, str] = {"huggingface": "config.json", "open_clip": "open_clip_config.json"}
# Safetensors and pickle, in the order of preference.
WEIGHTS: dict[Layout, tuple[str, str]] = {
    "huggingface": ("model.safetensors", "pytorch_model.bin"),
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
# What transformers.js calls its float32 graphs, and where their weights lie apart.
READY_MADE = [
    f"onnx/{tower}_model.onnx{suffix}"
    for tower in ("vision", "text")
    for suffix in ("", "_data", ".data")
]

"""Names of the files that checkpoints are made of, by layout."""

from typing import Literal

Layout = Literal["huggingface", "open_clip"]

CONFIGS: dict[Layout, str] = {"huggingface": "config.json", "open_clip": "open_clip_config.json"}
# Safetensors and pickle, in the order of preference.
WEIGHTS: dict[Layout, tuple[str, str]] = {
    "huggingface": ("model.safetensors", "pytorch_model.bin"),
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
# Tensors that every model of a layout has one of: what stands before its name in a file was put
# before all names, by whatever the model was a part of when it was saved.
ANCHORS: dict[Layout, tuple[str, ...]] = {
    "huggingface": (
        "vision_model.embeddings.patch_embedding.weight",
        "text_model.embeddings.token_embedding.weight",
    ),
    "open_clip": ("logit_scale",),
}
# What transformers.js calls graphs that are not in float32 -> what they are in.
VARIANTS = {
    "fp16": "fp16",
    "quantized": "int8",
    "int8": "int8",
    "uint8": "int8",
    "q4": "int4",
    "q4f16": "int4",
    "bnb4": "int4",
}


def graph_file(tower: str, variant: str | None = None) -> str:
    """Where a folder in transformers.js' layout has a tower's graph."""
    return f"onnx/{tower}_model{f'_{variant}' if variant else ''}.onnx"

"""What others than OpenCLIP put behind a model like BERT, in Hugging Face's layout.

transformers' ChineseCLIPModel; FreddeFrallan/Multilingual-CLIP, pt_multilingual_clip.py;
sentence-transformers, models/Pooling.py and Dense.py.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import Checkpoint
from . import bert
from .numerics import Array, Forward, Weights


def forward(checkpoint: Checkpoint, w: Weights) -> Forward | None:
    """The texts' tower, where it is like BERT's."""
    config = checkpoint.config
    if "text_model.embeddings.word_embeddings.weight" in w:
        section = {"model_type": "bert"} | config["text_config"]
        encoder = bert.given("text_model.", section, masks_within=False)

        def first(x: Array, seen: Array) -> Array:
            return w["text_projection.weight"] @ x[0]

        return partial(bert.texts, w, encoder, first)
    if "LinearTransformation.weight" in w:
        encoder = bert.named("transformer.", config["modelBase"].lower(), masks_within=False)

        def linear(x: Array, seen: Array) -> Array:
            return w.linear(x.mean(axis=0), "LinearTransformation")

        return partial(bert.texts, w, encoder, linear)
    if "embeddings.word_embeddings.weight" in w:
        return partial(bert.texts, w, bert.given("", config, False), _modules(checkpoint))
    return None


def _modules(checkpoint: Checkpoint) -> bert.Pool:
    """sentence-transformers' modules after the first."""
    root = checkpoint.folder
    root = root if (root / "modules.json").is_file() else root.parent
    paths = [
        module["path"] for module in json.loads((root / "modules.json").read_text("utf-8"))[1:]
    ]
    mean = json.loads((root / paths[0] / "config.json").read_text("utf-8"))[
        "pooling_mode_mean_tokens"
    ]
    layers = [path for path in paths[1:] if (root / path / "config.json").is_file()]

    def pool(x: Array, seen: Array) -> Array:
        vector: Array = x.mean(axis=0) if mean else x[0]
        for path in layers:
            vector = _dense(checkpoint, root / path, vector)
        return vector

    return pool


def _dense(checkpoint: Checkpoint, folder: Path, vector: Array) -> Array:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    if "in_features" not in config:
        return vector
    beside = Checkpoint(folder, "", None, "huggingface", config, "")
    w = Weights(beside.tensors)
    vector = w["linear.weight"] @ vector
    if "linear.bias" in w:
        vector = vector + w["linear.bias"]
    tanh = str(config.get("activation_function", "Tanh")).endswith("Tanh")
    return np.tanh(vector) if tanh else vector

"""The second route: transformers' own model, traced by optimum's ONNX exporter.

For what we do not author, and as a cross-check of what we do. Needs the extra
``bareclip[optimum]``, and brings PyTorch with it; nothing else imports this module.
"""

import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import optimum.exporters.onnx
import torch
import transformers
from numpy.typing import NDArray
from optimum.exporters.onnx.model_configs import CLIPOnnxConfig

from bareclip.bundle import ImageRecipe, Scoring

from .checkpoint import Checkpoint
from .errors import CheckpointError
from .graph import OPSET, OUTPUT, save
from .image_recipe import read_image_recipe
from .layouts.huggingface_config import (
    CLIP_TEXT,
    CLIP_VISION,
    read_text,
    read_vision,
    read_width,
)
from .reference.huggingface import clip_ids, clip_pixels
from .reference.numerics import ACTIVATIONS, Weights
from .route import Conversion, Text
from .text_recipe import read_tokenizer

ARCHITECTURE = "CLIPModel"


def convert(checkpoint: Checkpoint) -> Conversion:
    """Prepares a checkpoint that transformers can load as a ``CLIPModel``.

    Raises:
        CheckpointError: Of another architecture, or transformers cannot load it.
    """
    if ARCHITECTURE not in (checkpoint.config.get("architectures") or []):
        raise CheckpointError(
            f"{checkpoint.name} has the architecture "
            f"{checkpoint.config.get('architectures')}; via optimum we take {ARCHITECTURE}"
        )
    vision, text = read_vision(checkpoint, CLIP_VISION), read_text(checkpoint, CLIP_TEXT)
    recipe = read_image_recipe(checkpoint, vision.image_size)
    tokenizer = read_tokenizer(checkpoint, text.context_length, text.vocabulary, text.end_id)
    try:
        model = transformers.CLIPModel.from_pretrained(
            checkpoint.folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"transformers cannot load {checkpoint.folder}: {error}") from error
    towers = {"vision": VisionTower(model, recipe), "text": TextTower(model)}
    reference: dict[str, Callable[[NDArray[Any]], NDArray[Any]]]
    if {vision.activation, text.activation} <= set(ACTIVATIONS):
        weights = Weights(checkpoint.tensors)
        reference = {
            "vision": partial(clip_pixels, weights, vision, recipe),
            "text": partial(clip_ids, weights, text),
        }
        reference_name = "float64 NumPy"
    else:
        reference = {name: _reference(tower) for name, tower in towers.items()}
        reference_name = f"float64 transformers {transformers.__version__}"
    return Conversion(
        architecture=ARCHITECTURE,
        exporter=f"optimum-onnx {version('optimum-onnx')}",
        embedding_dim=read_width(checkpoint, "projection_dim", 512),
        scoring=Scoring("softmax", logit_scale=model.logit_scale.item(), logit_bias=0.0),
        image=recipe,
        text=Text(*tokenizer, text.vocabulary),
        write={
            "vision": partial(_write, towers["vision"], _VisionConfig),
            "text": partial(_write, towers["text"], _TextConfig),
        },
        reference=reference,
        reference_name=reference_name,
    )


class VisionTower(torch.nn.Module):
    """(N, size, size, 3) uint8 -> (N, D) unit rows."""

    def __init__(self, model: transformers.CLIPModel, recipe: ImageRecipe) -> None:
        super().__init__()
        self.config = model.config
        self.model = model
        self.scale = recipe.scale
        self.register_buffer("mean", torch.tensor(recipe.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(recipe.std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        values = pixels.permute(0, 3, 1, 2).to(self.mean.dtype) * self.scale
        vectors = self.model.get_image_features(pixel_values=(values - self.mean) / self.std)
        return vectors / vectors.norm(dim=-1, keepdim=True)


class TextTower(torch.nn.Module):
    """(N, T) int64 -> (N, D) unit rows."""

    def __init__(self, model: transformers.CLIPModel) -> None:
        super().__init__()
        self.config = model.config
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        vectors = self.model.get_text_features(input_ids=ids)
        return vectors / vectors.norm(dim=-1, keepdim=True)


class _TowerConfig(CLIPOnnxConfig):
    """Tells optimum one input and one output, in our names."""

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {OUTPUT: {0: "batch"}}


class _VisionConfig(_TowerConfig):
    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {"pixels": {0: "batch"}}

    def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, torch.Tensor]:
        size = self._config.vision_config.image_size
        return {"pixels": torch.zeros((2, size, size, 3), dtype=torch.uint8)}


class _TextConfig(_TowerConfig):
    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {"ids": {0: "batch", 1: "tokens"}}

    def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, torch.Tensor]:
        length = self._config.text_config.max_position_embeddings
        return {"ids": torch.ones((2, min(length, 16)), dtype=torch.int64)}


def _write(tower: torch.nn.Module, config: type[_TowerConfig], path: Path) -> None:
    traced = path.with_suffix(".traced")
    with warnings.catch_warnings():
        # The tracer warns of Python conditions on shapes, which are constant here.
        warnings.simplefilter("ignore")
        optimum.exporters.onnx.export(
            tower,
            config(tower.config, task="feature-extraction"),
            traced,
            opset=OPSET,
            disable_dynamic_axes_fix=True,
        )
    save(ir.load(traced), path)
    for leftover in path.parent.glob(f"{traced.name}*"):
        leftover.unlink()


def _reference(tower: torch.nn.Module) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    def run(batch: NDArray[Any]) -> NDArray[np.float64]:
        # transformers makes its causal mask in the default type, and float64's lowest
        # number does not fit into float32.
        torch.set_default_dtype(torch.float64)
        try:
            with torch.inference_mode():
                vectors: NDArray[np.float64] = tower.double()(torch.from_numpy(batch)).numpy()
        finally:
            torch.set_default_dtype(torch.float32)
            tower.float()
        return vectors

    return run

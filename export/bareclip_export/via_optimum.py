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
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from optimum.exporters.onnx.model_configs import CLIPOnnxConfig

from bareclip.bundle import ImageRecipe, Scoring, TextRecipe

from .checkpoint import Checkpoint
from .errors import CheckpointError
from .graph import OPSET, OUTPUT, save
from .image_recipe import read_image_recipe
from .layouts.huggingface_config import (
    CLIP_TEXT,
    CLIP_VISION,
    architectures,
    read_text,
    read_vision,
    read_width,
)
from .reference import read_forwards, read_tokens
from .reference.numerics import ACTIVATIONS
from .route import Conversion, Text
from .text_recipe import read_tokenizer

CLIP = "CLIPModel"


def convert(checkpoint: Checkpoint) -> Conversion:
    """Prepares a checkpoint that transformers can load, with image and text features.

    Raises:
        CheckpointError: transformers cannot load it, its model has no such features, or its
            processor or tokenizer is unknown.
    """
    if checkpoint.layout != "huggingface":
        raise CheckpointError(
            f"{checkpoint.name} is not in Hugging Face's layout, which optimum needs; leave out "
            "--via optimum"
        )
    named = architectures(checkpoint)
    if not named:
        raise CheckpointError(
            f"{checkpoint.config_path} names neither architectures nor a model_type, by which "
            'transformers knows a model: add a model_type, such as "clip"'
        )
    return _clip(checkpoint) if CLIP in named else _other(checkpoint, named[0])


def _clip(checkpoint: Checkpoint) -> Conversion:
    vision, text = read_vision(checkpoint, CLIP_VISION), read_text(checkpoint, CLIP_TEXT)
    recipe = read_image_recipe(checkpoint, vision.image_size)
    tokenizer = read_tokenizer(checkpoint, text.context_length, text.vocabulary, text.end_id)
    model = _load(transformers.CLIPModel, checkpoint)
    towers: dict[str, torch.nn.Module] = {
        "vision": VisionTower(model, recipe),
        "text": TextTower(model, None),
    }
    reference, reference_name = _references(towers)
    if {vision.activation, text.activation} <= set(ACTIVATIONS):
        reference = dict(read_forwards(checkpoint))
        reference_name = "float64 NumPy"
    return Conversion(
        architecture=CLIP,
        exporter=_exporter(),
        embedding_dim=read_width(checkpoint, "projection_dim", 512),
        scoring=Scoring("softmax", logit_scale=model.logit_scale.item(), logit_bias=0.0),
        image=recipe,
        text=Text(*tokenizer, text.vocabulary),
        write=_writers(towers, recipe.size, text.context_length),
        reference=reference,
        reference_name=reference_name,
        tokens=read_tokens(checkpoint),
    )


def _other(checkpoint: Checkpoint, architecture: str) -> Conversion:
    """A model that we know nothing of but what transformers says of it."""
    model = _load(transformers.AutoModel, checkpoint)
    lacking = [
        name
        for name in ("get_image_features", "get_text_features", "logit_scale")
        if not hasattr(model, name)
    ]
    if lacking or hasattr(model, "logit_bias"):
        raise CheckpointError(
            f"{checkpoint.name} is a {architecture}, which "
            + (f"has no {', '.join(lacking)}" if lacking else "has a logit_bias")
            + "; via optimum we take models that score cosines by a logit_scale, as CLIP does"
        )
    recipe = read_image_recipe(checkpoint, model.config.vision_config.image_size)
    text = _tokenizer(checkpoint, model.config.text_config)
    towers: dict[str, torch.nn.Module] = {
        "vision": VisionTower(model, recipe),
        "text": TextTower(model, text.recipe.pad_id),
    }
    reference, reference_name = _references(towers)
    _try(towers, _dummies(recipe.size, text.recipe.context_length), checkpoint)
    return Conversion(
        architecture=architecture,
        exporter=_exporter(),
        embedding_dim=model.config.projection_dim,
        scoring=Scoring("softmax", logit_scale=model.logit_scale.item(), logit_bias=0.0),
        image=recipe,
        text=text,
        write=_writers(towers, recipe.size, text.recipe.context_length),
        reference=reference,
        reference_name=reference_name,
    )


def _load(kind: Any, checkpoint: Checkpoint) -> Any:
    try:
        return kind.from_pretrained(
            checkpoint.folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"transformers cannot load {checkpoint.folder}: {reason}") from error


def _tokenizer(checkpoint: Checkpoint, config: Any) -> Text:
    """Transformers' fast tokenizer, as a tokenizer.json holds it."""
    try:
        fast = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, use_fast=True)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"transformers cannot load the tokenizer in {checkpoint.folder}: {reason}"
        ) from error
    if not fast.is_fast or fast.pad_token_id is None:
        raise CheckpointError(
            f"the tokenizer in {checkpoint.folder} is a {type(fast).__name__}, which has no "
            "tokenizer.json or no padding"
        )
    tokenizer = tokenizers.Tokenizer.from_str(fast.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    recipe = TextRecipe(
        context_length=min(fast.model_max_length, config.max_position_embeddings),
        pad_id=fast.pad_token_id,
        end_id=tokenizer.encode("").ids[-1],
        fixed_length=False,
        clean_up=(),
    )
    return Text(tokenizer, recipe, config.vocab_size)


def _exporter() -> str:
    return f"optimum-onnx {version('optimum-onnx')}"


def _references(
    towers: dict[str, torch.nn.Module],
) -> tuple[dict[str, Callable[[NDArray[Any]], NDArray[Any]]], str]:
    """Transformers' own model in float64, and what reports call it."""
    return (
        {name: _reference(tower) for name, tower in towers.items()},
        f"float64 transformers {transformers.__version__}",
    )


def _dummies(size: int, context: int) -> dict[str, torch.Tensor]:
    """Two inputs of each tower: a dimension of one would be taken to be constant."""
    return {
        "vision": torch.zeros((2, size, size, 3), dtype=torch.uint8),
        "text": torch.ones((2, min(context, 16)), dtype=torch.int64),
    }


def _try(
    towers: dict[str, torch.nn.Module], dummies: dict[str, torch.Tensor], checkpoint: Checkpoint
) -> None:
    """Refuses a model whose own code fails, as Chinese-CLIP's texts do in transformers 4.57."""
    for name, tower in towers.items():
        try:
            with torch.inference_mode():
                tower(dummies[name])
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"transformers {transformers.__version__} fails in the {name} features of "
                f"{checkpoint.name}: {reason}; its model is not one that goes through optimum"
            ) from error


def _writers(
    towers: dict[str, torch.nn.Module], size: int, context: int
) -> dict[str, Callable[[Path], None]]:
    dummies = _dummies(size, context)
    configs = {"vision": _VisionConfig, "text": _TextConfig}
    return {
        name: partial(_write, tower, configs[name], dummies[name]) for name, tower in towers.items()
    }


class VisionTower(torch.nn.Module):
    """(N, size, size, 3) uint8 -> (N, D) unit rows."""

    def __init__(self, model: Any, recipe: ImageRecipe) -> None:
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
    """(N, T) int64 -> (N, D) unit rows.

    Where a tower looks at all of a text, ``pad_id`` is what its attention mask leaves out; None
    where it looks back only, and needs none.
    """

    def __init__(self, model: Any, pad_id: int | None) -> None:
        super().__init__()
        self.config = model.config
        self.model = model
        self.pad_id = pad_id

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        mask = None if self.pad_id is None else (ids != self.pad_id).long()
        vectors = self.model.get_text_features(input_ids=ids, attention_mask=mask)
        return vectors / vectors.norm(dim=-1, keepdim=True)


class _TowerConfig(CLIPOnnxConfig):
    """Tells optimum one input and one output, in our names."""

    dummy: torch.Tensor

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {OUTPUT: {0: "batch"}}

    def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, torch.Tensor]:
        return dict.fromkeys(self.inputs, self.dummy)


class _VisionConfig(_TowerConfig):
    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {"pixels": {0: "batch"}}


class _TextConfig(_TowerConfig):
    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {"ids": {0: "batch", 1: "tokens"}}


def _write(
    tower: torch.nn.Module, kind: type[_TowerConfig], dummy: torch.Tensor, path: Path
) -> None:
    traced = path.with_suffix(".traced")
    config = kind(tower.config, task="feature-extraction")
    config.dummy = dummy
    with warnings.catch_warnings():
        # The tracer warns of Python conditions on shapes, which are constant here.
        warnings.simplefilter("ignore")
        optimum.exporters.onnx.export(
            tower, config, traced, opset=OPSET, disable_dynamic_axes_fix=True
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

"""The main route: our own towers, checked against a float64 forward in NumPy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from onnxscript.nn import Module

from bareclip.bundle import ImageRecipe

from .checkpoint import Checkpoint
from .graph import ids_input, pixels_input, write_graph
from .layouts import read_model
from .layouts.model import Model, VisionWeights
from .reference import read_forwards, read_tokens
from .route import Conversion, Text
from .static import make_static
from .towers.bert import Bert
from .towers.convnext import ConvNeXt
from .towers.convolutional_weights import (
    ConvNeXtWeights,
    FastViTWeights,
    StemmedTransformerWeights,
)
from .towers.eva import EvaBlocks
from .towers.eva_weights import EvaWeights
from .towers.fastvit import FastViT
from .towers.m2m_100 import M2m100
from .towers.modified_resnet import ModifiedResNet
from .towers.stemmed_transformer import StemmedTransformer
from .towers.text_transformer import TextTransformer
from .towers.vision_transformer import VisionTransformer
from .towers.weights import (
    BertWeights,
    M2m100Weights,
    ModifiedResNetWeights,
    TextTransformerWeights,
)


def convert(checkpoint: Checkpoint, static: int | None = None) -> Conversion:
    """Prepares a checkpoint of an architecture we author.

    Args:
        checkpoint: What to convert.
        static: Make graphs that take so many inputs always, and texts filled up.

    Raises:
        CheckpointError: Of another architecture, or incomplete.
    """
    model = read_model(checkpoint)
    if static is not None and model.text is not None:
        recipe = replace(model.text.recipe, fixed_length=True)
        model = replace(model, text=replace(model.text, recipe=recipe))
    vision, text = model.vision, model.text
    return Conversion(
        architecture=model.architecture,
        exporter="authored",
        embedding_dim=model.embedding_dim,
        scoring=model.scoring,
        image=vision.recipe if vision else None,
        text=(Text(text.tokenizer, text.recipe, text.weights.tokens.shape[0]) if text else None),
        write=_writers(model, static),
        reference=read_forwards(checkpoint),
        reference_name="float64 NumPy",
        tokens=read_tokens(checkpoint) if text else None,
        static_batch=static,
    )


def _writers(model: Model, static: int | None) -> dict[str, Callable[[Path], None]]:
    def change(graph: ir.Model) -> None:
        if static is not None:
            make_static(graph, static)

    writers: dict[str, Callable[[Path], None]] = {}
    width = model.embedding_dim
    if (vision := model.vision) is not None:
        writers["vision"] = lambda path: write_graph(
            _vision(vision.weights, vision.recipe),
            pixels_input(vision.recipe.size),
            width,
            path,
            change,
        )
    if (text := model.text) is not None:
        length = text.recipe.context_length if text.recipe.fixed_length else None
        writers["text"] = lambda path: write_graph(
            _text(text.weights), ids_input(length), width, path, change
        )
    return writers


def _vision(tower: VisionWeights, recipe: ImageRecipe) -> Module:
    if isinstance(tower, ModifiedResNetWeights):
        return ModifiedResNet(tower, recipe)
    if isinstance(tower, ConvNeXtWeights):
        return ConvNeXt(tower, recipe)
    if isinstance(tower, FastViTWeights):
        return FastViT(tower, recipe)
    if isinstance(tower, StemmedTransformerWeights):
        return StemmedTransformer(tower, recipe)
    if isinstance(tower, EvaWeights):
        return VisionTransformer(tower, recipe, EvaBlocks(tower))
    return VisionTransformer(tower, recipe)


def _text(tower: TextTransformerWeights | BertWeights) -> TextTransformer | Bert:
    if isinstance(tower, M2m100Weights):
        return M2m100(tower)
    return Bert(tower) if isinstance(tower, BertWeights) else TextTransformer(tower)

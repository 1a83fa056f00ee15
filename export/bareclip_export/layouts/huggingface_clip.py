"""Hugging Face's CLIPModel, whole or a tower alone: its tensor names, as transformers writes them.

A tower alone scores nothing; its bundle has CLIP's usual scale of 100.
"""

import math

from bareclip.bundle import Scoring

from ..checkpoint import Checkpoint
from ..image_recipe import read_image_recipe
from ..tensors import TensorStore
from ..text_recipe import read_tokenizer
from ..towers.weights import TextTransformerWeights, VisionTransformerWeights
from .huggingface import blocks, norm
from .huggingface_config import (
    CLIP_TEXT,
    CLIP_VISION,
    TextConfig,
    VisionConfig,
    read_text,
    read_vision,
    read_width,
)
from .model import Model, Text, Vision

# How the names of a tower alone end.
VISION, TEXT = "VisionModelWithProjection", "TextModelWithProjection"


def read(checkpoint: Checkpoint, architecture: str, legacy_end: bool = True) -> Model:
    """Reads a CLIPModel, or one of its towers with a projection.

    Args:
        checkpoint: Of such a model.
        architecture: What transformers calls it.
        legacy_end: As ``read_text`` has it.

    Raises:
        CheckpointError: Its config, processor or tensors are missing or do not fit, or
            its activation is unknown.
    """
    embedding_dim = read_width(checkpoint, "projection_dim", 512)
    scale = math.log(100)
    if not architecture.endswith((VISION, TEXT)):
        scale = checkpoint.tensors.scalar("logit_scale")
    return Model(
        architecture=architecture,
        embedding_dim=embedding_dim,
        scoring=Scoring("softmax", logit_scale=scale, logit_bias=0.0),
        vision=None if architecture.endswith(TEXT) else read_images(checkpoint, embedding_dim),
        text=(
            None if architecture.endswith(VISION) else _text(checkpoint, embedding_dim, legacy_end)
        ),
    )


def read_images(checkpoint: Checkpoint, embedding_dim: int) -> Vision:
    """The vision tower, which Chinese-CLIP has too.

    Raises:
        CheckpointError: As ``read``.
    """
    config, tensors = read_vision(checkpoint, CLIP_VISION), checkpoint.tensors
    recipe = read_image_recipe(checkpoint, config.image_size)
    return Vision(_vision_weights(tensors, config, embedding_dim), recipe)


def _vision_weights(
    tensors: TensorStore, config: VisionConfig, embedding_dim: int
) -> VisionTransformerWeights:
    width, patch = config.width, config.patch_size
    patches = (config.image_size // patch) ** 2
    name = "vision_model.embeddings"
    return VisionTransformerWeights(
        image_size=config.image_size,
        patch_size=patch,
        patch=tensors.get(f"{name}.patch_embedding.weight", (width, 3, patch, patch)),
        patch_bias=None,
        class_embedding=tensors.get(f"{name}.class_embedding", (width,)),
        positions=tensors.get(f"{name}.position_embedding.weight", (1 + patches, width)),
        # Misspelt in transformers, and so in every checkpoint.
        pre_norm=norm(tensors, "vision_model.pre_layrnorm", config),
        blocks=blocks(tensors, "vision_model", config),
        post_norm=norm(tensors, "vision_model.post_layernorm", config),
        pooling="class",
        projection=tensors.get("visual_projection.weight", (embedding_dim, width)),
    )


def _text(checkpoint: Checkpoint, embedding_dim: int, legacy_end: bool) -> Text:
    config, tensors = read_text(checkpoint, CLIP_TEXT, legacy_end), checkpoint.tensors
    tokenizer, recipe = read_tokenizer(
        checkpoint, config.context_length, config.vocabulary, config.end_id
    )
    return Text(_text_weights(tensors, config, embedding_dim), tokenizer, recipe)


def _text_weights(
    tensors: TensorStore, config: TextConfig, embedding_dim: int
) -> TextTransformerWeights:
    width = config.width
    name = "text_model.embeddings"
    return TextTransformerWeights(
        tokens=tensors.get(f"{name}.token_embedding.weight", (config.vocabulary, width)),
        positions=tensors.get(f"{name}.position_embedding.weight", (config.context_length, width)),
        causal=True,
        pooling="highest" if config.end_id is None else config.end_id,
        blocks=blocks(tensors, "text_model", config),
        post_norm=norm(tensors, "text_model.final_layer_norm", config),
        projection=tensors.get("text_projection.weight", (embedding_dim, width)),
        projection_bias=None,
    )

"""Hugging Face's SiglipModel, SigLIP 2 of fixed resolution among them: its tensor names."""

import tokenizers

from bareclip.bundle import CleanUp, Scoring, TextRecipe

from ..checkpoint import Checkpoint
from ..image_recipe import read_image_recipe
from ..tensors import TensorStore
from ..text_recipe import read_own_tokenizer, tokenizer_class
from ..towers.weights import (
    AttentionPoolingWeights,
    TextTransformerWeights,
    VisionTransformerWeights,
)
from .huggingface import activation, blocks, norm
from .huggingface_config import (
    SIGLIP_TEXT,
    SIGLIP_VISION,
    TextConfig,
    VisionConfig,
    read_text,
    read_vision,
)
from .model import Model, Text, Vision
from .named import linear, packed

# transformers 4.57, tokenization_siglip.py, in the place of which a tokenizer.json stands alone.
_CLEAN_UP: tuple[CleanUp, ...] = ("lowercase", "remove_punctuation", "collapse_whitespace")


def read(checkpoint: Checkpoint, architecture: str) -> Model:
    """Reads a SiglipModel.

    Raises:
        CheckpointError: Its config, processor, tokenizer or tensors are missing or do not
            fit, or its activation is unknown.
    """
    vision, text = read_vision(checkpoint, SIGLIP_VISION), read_text(checkpoint, SIGLIP_TEXT)
    tensors = checkpoint.tensors
    image = read_image_recipe(checkpoint, vision.image_size, "SiglipImageProcessor")
    made, recipe = tokenizer(checkpoint, text)
    return Model(
        architecture=architecture,
        embedding_dim=vision.width,
        scoring=Scoring(
            "sigmoid",
            logit_scale=tensors.scalar("logit_scale"),
            logit_bias=tensors.scalar("logit_bias"),
        ),
        vision=Vision(_vision(tensors, vision), image),
        text=Text(_text(tensors, text, vision.width), made, recipe),
    )


def tokenizer(
    checkpoint: Checkpoint, config: TextConfig
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    """The tokenizer, with the clean-up that transformers' class of it does before tokenizer.json.

    Raises:
        CheckpointError: It is missing, unknown, or does not fit the config.
    """
    clean_up = _CLEAN_UP if tokenizer_class(checkpoint) == "SiglipTokenizer" else ()
    return read_own_tokenizer(
        checkpoint, config.context_length, config.vocabulary, clean_up, fixed_length=True
    )


def _vision(tensors: TensorStore, config: VisionConfig) -> VisionTransformerWeights:
    width, patch = config.width, config.patch_size
    patches = (config.image_size // patch) ** 2
    name = "vision_model.embeddings"
    return VisionTransformerWeights(
        image_size=config.image_size,
        patch_size=patch,
        patch=tensors.get(f"{name}.patch_embedding.weight", (width, 3, patch, patch)),
        patch_bias=tensors.get(f"{name}.patch_embedding.bias", (width,)),
        class_embedding=None,
        positions=tensors.get(f"{name}.position_embedding.weight", (patches, width)),
        pre_norm=None,
        blocks=blocks(tensors, "vision_model", config),
        post_norm=norm(tensors, "vision_model.post_layernorm", config),
        pooling=_pooling(tensors, "vision_model.head", config),
        projection=None,
    )


def _pooling(tensors: TensorStore, name: str, config: VisionConfig) -> AttentionPoolingWeights:
    width, wide = config.width, config.mlp_width
    attention = f"{name}.attention"
    query, key, value = packed(
        tensors, f"{attention}.in_proj_weight", f"{attention}.in_proj_bias", width, 3
    )
    return AttentionPoolingWeights(
        heads=config.heads,
        activation=activation(config),
        probe=tensors.get(f"{name}.probe", (1, 1, width)).first().first(),
        query=query,
        key=key,
        value=value,
        out=linear(tensors, f"{attention}.out_proj", width, width),
        norm=norm(tensors, f"{name}.layernorm", config),
        expand=linear(tensors, f"{name}.mlp.fc1", wide, width),
        contract=linear(tensors, f"{name}.mlp.fc2", width, wide),
    )


def _text(tensors: TensorStore, config: TextConfig, embedding_dim: int) -> TextTransformerWeights:
    width = config.width
    name = "text_model.embeddings"
    return TextTransformerWeights(
        tokens=tensors.get(f"{name}.token_embedding.weight", (config.vocabulary, width)),
        positions=tensors.get(f"{name}.position_embedding.weight", (config.context_length, width)),
        causal=False,
        pooling="last",
        blocks=blocks(tensors, "text_model", config),
        post_norm=norm(tensors, "text_model.final_layer_norm", config),
        projection=tensors.get("text_model.head.weight", (embedding_dim, width)),
        projection_bias=tensors.get("text_model.head.bias", (embedding_dim,)),
    )

"""Hugging Face's CLIPModel: its tensor names, as transformers writes them."""

from typing import get_args

from bareclip.bundle import Scoring

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..recipes import read_image_recipe
from ..tensors import TensorStore
from ..towers import weights
from .huggingface_config import ClipConfig, TransformerConfig, read_config
from .model import Model


def read(checkpoint: Checkpoint) -> Model:
    """Reads a CLIPModel.

    Raises:
        CheckpointError: Its config, processor or tensors are missing or do not fit, or
            its activation is unknown.
    """
    config = read_config(checkpoint)
    tensors = checkpoint.tensors
    scale = float(tensors.get("logit_scale", ()).float64())
    return Model(
        architecture="CLIPModel",
        embedding_dim=config.embedding_dim,
        scoring=Scoring("softmax", logit_scale=scale, logit_bias=0.0),
        image=read_image_recipe(checkpoint, config.image_size),
        vision=_vision(config, tensors),
        text=_text(config, tensors),
    )


def _vision(config: ClipConfig, tensors: TensorStore) -> weights.VisionTransformer:
    width, patch = config.vision.width, config.patch_size
    patches = (config.image_size // patch) ** 2
    name = "vision_model.embeddings"
    return weights.VisionTransformer(
        image_size=config.image_size,
        patch_size=patch,
        patch=tensors.get(f"{name}.patch_embedding.weight", (width, 3, patch, patch)),
        class_embedding=tensors.get(f"{name}.class_embedding", (width,)),
        positions=tensors.get(f"{name}.position_embedding.weight", (1 + patches, width)),
        # Misspelt in transformers, and so in every checkpoint.
        pre_norm=_norm(tensors, "vision_model.pre_layrnorm", config.vision),
        blocks=_blocks(tensors, "vision_model", config.vision),
        post_norm=_norm(tensors, "vision_model.post_layernorm", config.vision),
        projection=tensors.get("visual_projection.weight", (config.embedding_dim, width)),
    )


def _text(config: ClipConfig, tensors: TensorStore) -> weights.TextTransformer:
    width = config.text.width
    name = "text_model.embeddings"
    return weights.TextTransformer(
        tokens=tensors.get(f"{name}.token_embedding.weight", (config.vocabulary, width)),
        positions=tensors.get(f"{name}.position_embedding.weight", (config.context_length, width)),
        end_id=config.end_id,
        blocks=_blocks(tensors, "text_model", config.text),
        post_norm=_norm(tensors, "text_model.final_layer_norm", config.text),
        projection=tensors.get("text_projection.weight", (config.embedding_dim, width)),
    )


def _blocks(
    tensors: TensorStore, tower: str, config: TransformerConfig
) -> tuple[weights.Block, ...]:
    return tuple(
        _block(tensors, f"{tower}.encoder.layers.{index}", config) for index in range(config.layers)
    )


def _block(tensors: TensorStore, name: str, config: TransformerConfig) -> weights.Block:
    width, wide = config.width, config.mlp_width

    def linear(part: str, out: int, into: int) -> weights.Linear:
        return weights.Linear(
            tensors.get(f"{name}.{part}.weight", (out, into)),
            tensors.get(f"{name}.{part}.bias", (out,)),
        )

    return weights.Block(
        heads=config.heads,
        activation=_activation(config),
        attention_norm=_norm(tensors, f"{name}.layer_norm1", config),
        query=linear("self_attn.q_proj", width, width),
        key=linear("self_attn.k_proj", width, width),
        value=linear("self_attn.v_proj", width, width),
        out=linear("self_attn.out_proj", width, width),
        mlp_norm=_norm(tensors, f"{name}.layer_norm2", config),
        expand=linear("mlp.fc1", wide, width),
        contract=linear("mlp.fc2", width, wide),
    )


def _activation(config: TransformerConfig) -> weights.Activation:
    for known in get_args(weights.Activation):
        if config.activation == known:
            return known
    raise CheckpointError(
        f"the activation {config.activation!r} of this checkpoint is none that we author "
        f"({', '.join(get_args(weights.Activation))}): try --via optimum"
    )


def _norm(tensors: TensorStore, name: str, config: TransformerConfig) -> weights.Norm:
    return weights.Norm(
        tensors.get(f"{name}.weight", (config.width,)),
        tensors.get(f"{name}.bias", (config.width,)),
        config.epsilon,
    )

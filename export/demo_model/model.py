"""The model's shape, its loss and its files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

from demo_model.data import MEAN, STD
from demo_model.vocabulary import CONTEXT_LENGTH

PICTURE_SIDE = 64
PATCH_SIDE = 8
VECTOR_WIDTH = 128
LARGEST_LOGIT_SCALE = 100.0
"""The CLIP paper's bound on 1 / temperature."""


def make_config(tokenizer: CLIPTokenizerFast) -> CLIPConfig:
    """Returns the two towers' sizes: 1.8 million parameters in all."""
    vision = {
        "hidden_size": 192,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "image_size": PICTURE_SIDE,
        "patch_size": PATCH_SIDE,
        "projection_dim": VECTOR_WIDTH,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": VECTOR_WIDTH,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=VECTOR_WIDTH)


def make_model(config: CLIPConfig, seed: int) -> CLIPModel:
    """Builds a model with weights drawn from the seed."""
    torch.manual_seed(seed)
    config._attn_implementation = "sdpa"
    return CLIPModel(config)


def image_vectors(model: CLIPModel, pixels: Tensor) -> Tensor:
    """Returns unit vectors `[batch, 128]`; any multiple of the patch side is a picture side."""
    vectors: Tensor = model.get_image_features(pixels, interpolate_pos_encoding=True)
    return functional.normalize(vectors, dim=-1)


def text_vectors(model: CLIPModel, tokens: Tensor) -> Tensor:
    """Returns unit vectors `[batch, 128]`."""
    vectors: Tensor = model.get_text_features(tokens)
    return functional.normalize(vectors, dim=-1)


def contrastive_loss(image_vectors: Tensor, text_vectors: Tensor, logit_scale: Tensor) -> Tensor:
    """Returns CLIP's symmetric cross-entropy.

    Args:
        image_vectors: Unit vectors `[batch, width]`.
        text_vectors: Unit vectors `[batch, width]`; row `i` belongs to picture `i`.
        logit_scale: What cosines are multiplied by, that is 1 / temperature, not its logarithm.
    """
    logits = logit_scale * image_vectors @ text_vectors.T
    target = torch.arange(len(logits), device=logits.device)
    by_picture = functional.cross_entropy(logits, target)
    by_text = functional.cross_entropy(logits.T, target)
    return (by_picture + by_text) / 2


def save_model(directory: Path, model: CLIPModel) -> None:
    """Saves the model and its picture preparation in the Hugging Face layout."""
    model.save_pretrained(directory)
    CLIPImageProcessor(
        size={"shortest_edge": PICTURE_SIDE},
        crop_size={"height": PICTURE_SIDE, "width": PICTURE_SIDE},
        image_mean=list(MEAN),
        image_std=list(STD),
    ).save_pretrained(directory)

"""transformers' M2M100Encoder, which NLLB's models have: tensor names, and positions of its own."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..tensors import Tensor, TensorStore
from ..towers.weights import BlockWeights, M2m100Weights, ProjectionWeights
from .bert import BertConfig
from .huggingface import ACTIVATIONS
from .named import linear, norm


def read_weights(
    tensors: TensorStore,
    name: str,
    config: BertConfig,
    pooling: Literal["first", "mean"],
    projections: tuple[ProjectionWeights, ...],
) -> M2m100Weights:
    """The tower, of tensors whose names begin with ``name``.

    Raises:
        CheckpointError: Its tensors are missing or do not fit the config.
    """
    width = config.width
    tokens = tensors.get(f"{name}embed_tokens.weight", (config.vocabulary, width))
    rows = 1 + config.context_length
    return M2m100Weights(
        tokens=tokens.scaled(math.sqrt(width)),
        positions=Tensor((rows, width), lambda: _positions(rows, width, config.pad_id)),
        types=None,
        norm=norm(tensors, f"{name}layer_norm", width, config.epsilon),
        blocks=tuple(_block(tensors, name, index, config) for index in range(config.layers)),
        pad_id=config.pad_id,
        counted=True,
        hides_all_padding=True,
        pooling=pooling,
        projections=projections,
    )


def _positions(rows: int, width: int, pad_id: int) -> NDArray[np.float32]:
    """(rows, width): nothing for padding, then sines and cosines of the places behind its id.

    In float32, as the model was trained (transformers 4.57, modeling_m2m_100.py).
    """
    half = width // 2
    rates = np.exp(np.arange(half) * -(math.log(10000) / (half - 1))).astype(np.float32)
    angles = np.arange(pad_id, pad_id + rows, dtype=np.float32)[:, None] * rates
    made = np.zeros((rows, width), np.float32)
    made[:, : 2 * half] = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    made[0] = 0
    return made


def _block(tensors: TensorStore, name: str, index: int, config: BertConfig) -> BlockWeights:
    layer, width, wide = f"{name}layers.{index}", config.width, config.mlp_width
    query, key, value, out = (
        linear(tensors, f"{layer}.self_attn.{part}_proj", width, width)
        for part in ("q", "k", "v", "out")
    )
    return BlockWeights(
        heads=config.heads,
        activation=ACTIVATIONS[config.activation],
        attention_norm=norm(tensors, f"{layer}.self_attn_layer_norm", width, config.epsilon),
        query=query,
        key=key,
        value=value,
        out=out,
        mlp_norm=norm(tensors, f"{layer}.final_layer_norm", width, config.epsilon),
        expand=linear(tensors, f"{layer}.fc1", wide, width),
        contract=linear(tensors, f"{layer}.fc2", width, wide),
    )

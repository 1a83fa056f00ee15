"""transformers' M2M100Encoder, which NLLB's models have: tensor names, and positions of its own."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..tensors import Tensor, TensorStore
from ..towers.weights import M2m100Weights, ProjectionWeights
from .bert import BertConfig
from .huggingface import ACTIVATIONS
from .named import BlockNames, block, norm

_BLOCK = BlockNames(
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    out="self_attn.out_proj",
    attention_norm="self_attn_layer_norm",
    expand="fc1",
    contract="fc2",
    mlp_norm="final_layer_norm",
)


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
        blocks=tuple(
            block(tensors, f"{name}layers.{index}", _BLOCK, config, ACTIVATIONS[config.activation])
            for index in range(config.layers)
        ),
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

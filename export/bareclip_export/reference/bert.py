"""transformers' BERT, DistilBERT, RoBERTa and XLM-RoBERTa, and what OpenCLIP and others put behind.

A text at a time, without what fills it up. How many layers there are is read off the tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numerics import ACTIVATIONS, Array, Weights, attention, unit


@dataclass(frozen=True)
class Encoder:
    """What the tensors of a model do not say.

    Attributes:
        name: Before its tensors' names.
        first: The first token's position; RoBERTa's is behind that of padding.
        masks_within: Whether padding's id within a text hides that token.
    """

    name: str
    heads: int
    epsilon: float
    activation: str
    pad: int
    first: int
    masks_within: bool


Pool = Callable[[Array, Array], Array]
# Texts, and which of their tokens are hidden, as what is added to logits: each text's (T, W).
Encode = Callable[[Weights, Encoder, list[NDArray[np.int64]], list[Array]], list[Array]]


def texts(
    w: Weights, encoder: Encoder, pool: Pool, ids: NDArray[np.int64], encode: Encode | None = None
) -> Array:
    """(N, T) ids -> (N, D) unit rows; ``pool`` takes (T, W) and the (T,) tokens that are seen."""
    encode = encode or _encode
    rows = [row[: int(np.flatnonzero(row != encoder.pad)[-1]) + 1] for row in ids]
    hidden = [(row == encoder.pad) & encoder.masks_within for row in rows]
    states = encode(w, encoder, rows, [np.where(one, -np.inf, 0) for one in hidden])
    return unit(np.stack([pool(x, ~one) for x, one in zip(states, hidden, strict=True)]))


def mean(x: Array, seen: Array) -> Array:
    """Of the tokens that are seen."""
    return x[seen > 0].mean(axis=0)


def first(x: Array, seen: Array) -> Array:
    """The first token."""
    return x[0]


def _encode(
    w: Weights, encoder: Encoder, rows: list[NDArray[np.int64]], masks: list[Array]
) -> list[Array]:
    """Each text's (T, W); all that is done token by token is done to all of them at once."""
    place, epsilon = f"{encoder.name}embeddings", encoder.epsilon
    cuts = np.cumsum([len(row) for row in rows])[:-1]
    x = w.rows(f"{place}.word_embeddings.weight", np.concatenate(rows))
    at = np.concatenate([places(encoder, row) for row in rows])
    x = x + w[f"{place}.position_embeddings.weight"][at]
    if f"{place}.token_type_embeddings.weight" in w:
        x = x + w[f"{place}.token_type_embeddings.weight"][0]
    x = w.norm(x, f"{place}.LayerNorm", epsilon)
    distil = f"{encoder.name}transformer.layer.0.ffn.lin1.weight" in w
    names = _DISTILBERT if distil else _BERT
    index = 0
    while f"{(layer := f'{encoder.name}{names[0]}.{index}.')}{names[1]}.weight" in w:
        query, key, value, out, after, expand, contract, last = (layer + n for n in names[1:])
        parts = [np.split(w.linear(x, part), cuts) for part in (query, key, value)]
        mixed = [
            attention(q[None], k[None], v[None], encoder.heads, mask)[0]
            for q, k, v, mask in zip(*parts, masks, strict=True)
        ]
        x = w.norm(x + w.linear(np.concatenate(mixed), out), after, epsilon)
        hidden = ACTIVATIONS[encoder.activation](w.linear(x, expand))
        x = w.norm(x + w.linear(hidden, contract), last, epsilon)
        index += 1
    return np.split(x, cuts)


def places(encoder: Encoder, row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of a text's tokens; RoBERTa's count no padding, which has its own."""
    if not encoder.first:
        return np.arange(len(row))
    inside = row != encoder.pad
    return np.where(inside, np.cumsum(inside), 0) + encoder.first - 1


_BERT = (
    "encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
    "output.LayerNorm",
)  # fmt: skip
_DISTILBERT = (
    "transformer.layer", "attention.q_lin", "attention.k_lin", "attention.v_lin",
    "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm",
)  # fmt: skip


def named(name: str, model: str, masks_within: bool) -> Encoder:
    """Of a model that goes by its name: heads are 64 wide in all of them, and GELU is theirs."""
    roberta, large = "roberta" in model, "large" in model
    heads, epsilon = 16 if large else 12, 1e-5 if roberta else 1e-12
    pad, first = (1, 2) if roberta else (0, 0)
    return Encoder(name, heads, epsilon, "gelu", pad, first, masks_within)


def given(name: str, config: dict[str, Any], masks_within: bool) -> Encoder:
    """Of a config.json, with the defaults of configuration_*.py."""
    kind = config["model_type"]
    roberta, distil = "roberta" in kind, kind == "distilbert"
    pad = config.get("pad_token_id", 1 if roberta else 0)
    return Encoder(
        name,
        config.get("n_heads" if distil else "num_attention_heads", 12),
        1e-12 if distil else config.get("layer_norm_eps", 1e-12),
        config.get("activation" if distil else "hidden_act", "gelu"),
        pad,
        pad + 1 if roberta else 0,
        masks_within,
    )

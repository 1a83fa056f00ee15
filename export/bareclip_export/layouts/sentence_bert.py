"""sentence-transformers' text models: a model like BERT, pooled, with linear layers behind.

Such as clip-ViT-B-32-multilingual-v1, whose texts were trained for the images of CLIP's ViT-B/32;
``bareclip pair`` joins them.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from bareclip.bundle import CleanUp, Scoring
from bareclip.errors import short

from ..bert_tokenizer import most_tokens, read_bert_tokenizer
from ..checkpoint import Checkpoint, read_json
from ..errors import CheckpointError
from ..sentence_transformers import Module
from ..towers.weights import ProjectionWeights
from .bert import BertConfig, read_config, read_weights
from .model import Model, Text

# sentence-transformers 5, models/Pooling.py: modes of which one may be on.
_POOLINGS: dict[str, Literal["first", "mean"]] = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
}
# models/Dense.py: what follows a linear layer.
_ACTIVATIONS: dict[str, Literal["tanh"] | None] = {
    "torch.nn.modules.linear.Identity": None,
    "torch.nn.modules.activation.Tanh": "tanh",
}


def read(checkpoint: Checkpoint, root: Path, modules: list[Module]) -> Model:
    """Reads a text model.

    Args:
        checkpoint: Of the first module.
        root: Where the others' folders lie.
        modules: All of them.

    Raises:
        CheckpointError: A module does what we do not author, or its files are missing or do not
            fit.
    """
    config = read_config(checkpoint.config, checkpoint.config_path)
    if config.kind == "roberta":
        # It takes the spaces around a text away, which matter to byte-level BPE alone.
        raise CheckpointError(
            f"{checkpoint.config_path} is of a roberta, of sentence-transformers; we author bert, "
            "distilbert and xlm-roberta there"
        )
    pooling = _pooling(root / modules[1].path)
    layers, width = [], config.width
    for module in modules[2:]:
        if module.kind == "Dense":
            layer = _dense(replace(checkpoint, folder=root / module.path), width)
            layers.append(layer)
            width = layer.weight.shape[0]
    context, clean_up = _transformer(checkpoint, config)
    tokenizer, recipe = read_bert_tokenizer(
        checkpoint, context, config.vocabulary, config.pad_id, clean_up
    )
    weights = read_weights(
        checkpoint.tensors, "", config, pooling, tuple(layers), hides_all_padding=False
    )
    return Model(
        architecture=f"sentence-transformers {config.kind}",
        embedding_dim=width,
        scoring=Scoring("softmax", math.log(100), 0.0),
        vision=None,
        text=Text(weights, tokenizer, recipe),
    )


def _transformer(checkpoint: Checkpoint, config: BertConfig) -> tuple[int, tuple[CleanUp, ...]]:
    """Most tokens a text, and what is done to it before the tokenizer."""
    given = checkpoint.json("sentence_bert_config.json") or {}
    longest = given.get("max_seq_length")
    if longest is None:
        longest = most_tokens(checkpoint, config.context_length)
    if type(longest) is not int or not 2 < longest <= config.context_length:
        raise CheckpointError(
            f"{checkpoint.folder}/sentence_bert_config.json has max_seq_length {short(longest)}; "
            f"the model takes 3 to {config.context_length} tokens"
        )
    return longest, ("lowercase",) if given.get("do_lower_case") else ()


def _pooling(folder: Path) -> Literal["first", "mean"]:
    config = read_json(folder / "config.json")
    on = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
    if len(on) != 1 or on[0] not in _POOLINGS:
        raise CheckpointError(
            f"{folder / 'config.json'} pools by {short(', '.join(on))[1:-1]}; we author one of "
            f"{', '.join(_POOLINGS)}"
        )
    return _POOLINGS[on[0]]


def _dense(checkpoint: Checkpoint, width: int) -> ProjectionWeights:
    where = checkpoint.folder / "config.json"
    config: dict[str, Any] = read_json(where)
    out, activation = config.get("out_features"), config.get("activation_function")
    if config.get("in_features") != width or type(out) is not int:
        raise CheckpointError(
            f"{where} takes {short(config.get('in_features'))} numbers and gives {short(out)}; "
            f"{width} come to it"
        )
    if str(activation) not in _ACTIVATIONS:
        raise CheckpointError(
            f"{where} has the activation_function {short(activation)}; we author "
            f"{', '.join(_ACTIVATIONS)}"
        )
    tensors = checkpoint.tensors
    bias = tensors.get("linear.bias", (out,)) if config.get("bias", True) else None
    return ProjectionWeights(
        tensors.get("linear.weight", (out, width)), bias, _ACTIVATIONS[str(activation)]
    )

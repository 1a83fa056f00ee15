"""OpenCLIP's text towers of Hugging Face's models (hf_model.py): those like BERT, and NLLB's."""

from typing import Literal

from bareclip.bundle import CleanUp
from bareclip.errors import short

from ..bert_tokenizer import read_bert_tokenizer
from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..tensors import TensorStore
from ..towers.weights import ProjectionWeights
from . import m2m_100
from .bert import BertConfig, read_config, read_named, read_weights
from .model import Text
from .named import linear
from .open_clip_config import OpenClipConfig

# open_clip 3.3, hf_model.py, by hf_pooler_type.
_POOLERS: dict[str, Literal["first", "mean"]] = {
    "mean_pooler": "mean",
    "cls_pooler": "first",
    "cls_last_hidden_state_pooler": "first",
}


def read(checkpoint: Checkpoint, config: OpenClipConfig, clean_up: tuple[CleanUp, ...]) -> Text:
    """Reads the text tower and its tokenizer.

    Raises:
        CheckpointError: A model, pooling or projection that is unknown; or its tokenizer or
            tensors are missing or do not fit.
    """
    section, tensors = config.text, checkpoint.tensors
    sizes = _sizes(checkpoint, config)
    pooler = str(section["hf_pooler_type"])
    if pooler not in _POOLERS:
        raise CheckpointError(
            f"{config.where} has hf_pooler_type {short(pooler)}; we author {', '.join(_POOLERS)}"
        )
    context = section["context_length"]
    if context > sizes.context_length:
        raise CheckpointError(
            f"{config.where} has context_length {context}, more than the {sizes.context_length} "
            f"tokens that {section['hf_model_name']} takes"
        )
    tokenizer, recipe = read_bert_tokenizer(
        checkpoint, context, sizes.vocabulary, sizes.pad_id, clean_up
    )
    name = "text.transformer."
    projections = _projections(tensors, config, sizes.width)
    pooling = _POOLERS[pooler]
    if sizes.kind == "m2m_100":
        # Its encoder has no pooler of its own, so that open_clip's takes the first token as it is.
        found = m2m_100.read_weights(tensors, name, sizes, pooling, projections)
        return Text(found, tokenizer, recipe)
    if pooler == "cls_pooler":
        dense = linear(tensors, f"{name}pooler.dense", sizes.width, sizes.width)
        projections = (ProjectionWeights(dense.weight, dense.bias, "tanh"), *projections)
    weights = read_weights(tensors, name, sizes, pooling, projections, hides_all_padding=True)
    return Text(weights, tokenizer, recipe)


def _sizes(checkpoint: Checkpoint, config: OpenClipConfig) -> BertConfig:
    """Of the model by its name, or by a config.json of its own beside OpenCLIP's."""
    beside = checkpoint.json("config.json") or {}
    if beside.get("model_type") in ("bert", "roberta", "xlm-roberta", "m2m_100"):
        return read_config(beside, f"{checkpoint.folder}/config.json")
    return read_named(config.text["hf_model_name"], config.where, "hf_model_name")


def _projections(
    tensors: TensorStore, config: OpenClipConfig, width: int
) -> tuple[ProjectionWeights, ...]:
    kind, out, name = config.text["hf_proj_type"], config.embedding_dim, "text.proj"
    if kind == "linear":
        return (ProjectionWeights(tensors.get(f"{name}.weight", (out, width))),)
    if kind == "mlp":
        hidden = (width + out) // 2
        return (
            ProjectionWeights(tensors.get(f"{name}.0.weight", (hidden, width)), None, "gelu"),
            ProjectionWeights(tensors.get(f"{name}.2.weight", (out, hidden))),
        )
    if kind is None and width == out:
        return ()
    raise CheckpointError(
        f"{config.where} has hf_proj_type {short(kind)} from {width} to {out}; we author linear "
        "and mlp, and none where these are equal"
    )

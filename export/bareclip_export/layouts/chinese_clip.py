"""Hugging Face's ChineseCLIPModel: CLIP's images, BERT's texts.

Its texts are the first token of the last block, projected: transformers' ``forward`` has it so, and
``get_text_features`` of some versions fails.
"""

from bareclip.bundle import Scoring
from bareclip.errors import short

from ..bert_tokenizer import most_tokens, read_bert_tokenizer
from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..towers.weights import ProjectionWeights
from .bert import read_config, read_weights
from .huggingface_clip import read_images
from .huggingface_config import read_width
from .model import Model, Text


def read(checkpoint: Checkpoint, architecture: str) -> Model:
    """Reads a ChineseCLIPModel.

    Raises:
        CheckpointError: Its config, processor, tokenizer or tensors are missing or do not fit.
    """
    embedding_dim = read_width(checkpoint, "projection_dim", 512)
    return Model(
        architecture=architecture,
        embedding_dim=embedding_dim,
        scoring=Scoring("softmax", checkpoint.tensors.scalar("logit_scale"), 0.0),
        vision=read_images(checkpoint, embedding_dim),
        text=_text(checkpoint, embedding_dim),
    )


def _text(checkpoint: Checkpoint, embedding_dim: int) -> Text:
    section, where = (
        checkpoint.config.get("text_config"),
        f"text_config of {checkpoint.config_path}",
    )
    if not isinstance(section, dict):
        raise CheckpointError(
            f"{checkpoint.config_path} has {short(section)} for text_config, not an object"
        )
    config = read_config({"model_type": "chinese_clip_text_model"} | section, where)
    tokenizer, recipe = read_bert_tokenizer(
        checkpoint, most_tokens(checkpoint, config.context_length), config.vocabulary, config.pad_id
    )
    projection = checkpoint.tensors.get("text_projection.weight", (embedding_dim, config.width))
    weights = read_weights(
        checkpoint.tensors,
        "text_model.",
        config,
        "first",
        (ProjectionWeights(projection),),
        hides_all_padding=False,
    )
    return Text(weights, tokenizer, recipe)

"""M-CLIP's texts (Carlsson et al. 2022): a model by its name, averaged, and a linear layer.

They were trained for the images of another model, which ``bareclip pair`` joins them to.
"""

import math

from bareclip.bundle import Scoring
from bareclip.errors import short

from ..bert_tokenizer import most_tokens, read_bert_tokenizer
from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..towers.weights import ProjectionWeights
from .bert import read_named, read_weights
from .huggingface_config import read_width
from .model import Model, Text
from .named import linear


def read(checkpoint: Checkpoint, architecture: str) -> Model:
    """Reads a MultilingualCLIP.

    Raises:
        CheckpointError: Of an unknown model, or its tokenizer or tensors are missing or do not fit.
    """
    where = checkpoint.config_path
    config = read_named(checkpoint.config.get("modelBase"), where, "modelBase")
    embedding_dim = read_width(checkpoint, "numDims", 768)
    if (width := read_width(checkpoint, "transformerDimensions", 1024)) != config.width:
        raise CheckpointError(
            f"{where} has transformerDimensions {width}, where "
            f"{short(checkpoint.config['modelBase'])} has {config.width}: they do not belong "
            "together"
        )
    tokenizer, recipe = read_bert_tokenizer(
        checkpoint, most_tokens(checkpoint, config.context_length), config.vocabulary, config.pad_id
    )
    last = linear(checkpoint.tensors, "LinearTransformation", embedding_dim, config.width)
    weights = read_weights(
        checkpoint.tensors,
        "transformer.",
        config,
        "mean",
        (ProjectionWeights(last.weight, last.bias),),
        hides_all_padding=False,
    )
    return Model(
        architecture=architecture,
        embedding_dim=embedding_dim,
        scoring=Scoring("softmax", math.log(100), 0.0),
        vision=None,
        text=Text(weights, tokenizer, recipe),
    )

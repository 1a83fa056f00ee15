"""transformers' BERT, DistilBERT, RoBERTa and XLM-RoBERTa: configurations and tensor names.

M2M-100's configuration is read here too, and its tensors in m2m_100.py.
"""

from dataclasses import dataclass
from typing import Any, Literal

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import Tensor, TensorStore
from ..towers.weights import BertWeights, ProjectionWeights
from .huggingface import ACTIVATIONS
from .huggingface_config import LARGEST, Section
from .named import BlockNames, block, norm

_BERT_BLOCK = BlockNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    expand="intermediate.dense",
    contract="output.dense",
    mlp_norm="output.LayerNorm",
)
_DISTILBERT_BLOCK = BlockNames(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    expand="ffn.lin1",
    contract="ffn.lin2",
    mlp_norm="output_layer_norm",
)

# transformers 4.57, models/*/configuration_*.py; DistilBERT has other names for the same.
_BERT: Section = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
_ROBERTA = _BERT | {"pad_token_id": 1}
_NAMES = {
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    },
    "m2m_100": {
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
        "num_attention_heads": "encoder_attention_heads",
        "intermediate_size": "encoder_ffn_dim",
        "hidden_act": "activation_function",
    },
}
# What a configuration of the kind does not decide.
_FIXED: dict[str, Section] = {
    "distilbert": {"type_vocab_size": 0, "layer_norm_eps": 1e-12},
    "m2m_100": {"type_vocab_size": 0, "layer_norm_eps": 1e-5},
}
_DISTILBERT = _BERT | {"num_hidden_layers": 6}
_M2M_100 = _ROBERTA | {
    "vocab_size": 128112,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "hidden_act": "relu",
    "max_position_embeddings": 1024,
}
_DEFAULTS: dict[str, Section] = {
    "bert": _BERT,
    "chinese_clip_text_model": _BERT,
    "distilbert": _DISTILBERT,
    "m2m_100": _M2M_100,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
# What these models' own config.json say, for checkpoints that have them by name only.
_XLM_R: Section = {
    "model_type": "xlm-roberta",
    "vocab_size": 250002,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
_LARGE: Section = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_NLLB: Section = {"model_type": "m2m_100", "vocab_size": 256206}
MODELS: dict[str, Section] = {
    "xlm-roberta-base": _XLM_R,
    "xlm-roberta-large": _XLM_R | _LARGE,
    "roberta-base": _XLM_R | {"model_type": "roberta", "vocab_size": 50265},
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": {"model_type": "bert"},
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract": {"model_type": "bert"},
    "sentence-transformers/LaBSE": {"model_type": "bert", "vocab_size": 501153},
    "facebook/nllb-200-distilled-600M": _NLLB,
    "facebook/nllb-200-distilled-1.3B": _NLLB | {"encoder_layers": 24, "encoder_ffn_dim": 8192},
}


@dataclass(frozen=True)
class BertConfig:
    """A BERT-like model's sizes.

    Attributes:
        kind: transformers' model_type.
        positions: Rows of the table.
        types: Kinds of segments; 0 where there are none.
    """

    kind: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: str
    positions: int
    types: int
    epsilon: float
    pad_id: int

    @property
    def counted(self) -> bool:
        """Whether positions begin behind padding's, and count tokens other than padding."""
        return self.kind in ("roberta", "xlm-roberta", "m2m_100")

    @property
    def context_length(self) -> int:
        """Most tokens a text."""
        return self.positions - (self.pad_id + 1 if self.counted else 0)


def read_named(name: Any, where: str, field: str) -> BertConfig:
    """The configuration of a model that a checkpoint has by name only.

    Raises:
        CheckpointError: One that is unknown here.
    """
    # What the Hub calls them today.
    plain = str(name).removeprefix("FacebookAI/")
    if plain not in MODELS:
        raise CheckpointError(
            f"{where} has {field} {short(name)}; we author texts of {', '.join(MODELS)}"
        )
    return read_config(MODELS[plain], where)


def read_config(given: Section, where: str) -> BertConfig:
    """Reads and checks the config.json of a BERT-like model.

    Raises:
        CheckpointError: Another model, or a value that makes no sense or is not authored.
    """
    kind = str(given.get("model_type"))
    if kind not in _DEFAULTS:
        raise CheckpointError(
            f"{where} has the model_type {short(given.get('model_type'))} for texts; we author "
            f"{', '.join(_DEFAULTS)}"
        )
    names = _NAMES.get(kind, {})
    section: Section = {}
    for name, default in _DEFAULTS[kind].items():
        value: Any = given.get(names.get(name, name), default)
        section[name] = value
        low = 0 if name == "pad_token_id" else 1e-30
        if type(value) is not type(default) or (
            type(value) is not str and not low <= value < LARGEST
        ):
            raise CheckpointError(
                f"{where} has {names.get(name, name)} = {short(value)}, not a "
                f"{type(default).__name__} such as {default!r}"
            )
    if (kept := given.get("position_embedding_type", "absolute")) != "absolute":
        raise CheckpointError(
            f"{where} has position_embedding_type {short(kept)}; we author 'absolute'"
        )
    if not given.get("scale_embedding", True):
        raise CheckpointError(
            f"{where} has scale_embedding {short(given['scale_embedding'])}; we author true"
        )
    section |= _FIXED.get(kind, {})
    width, heads = section["hidden_size"], section["num_attention_heads"]
    if width % heads:
        raise CheckpointError(f"{where} has {heads} heads in a width of {width}, uneven ones")
    if section["hidden_act"] not in ACTIVATIONS:
        raise CheckpointError(
            f"{where} has the activation {short(section['hidden_act'])} for texts; we author "
            f"{', '.join(ACTIVATIONS)}"
        )
    config = BertConfig(
        kind=kind,
        vocabulary=section["vocab_size"],
        width=width,
        layers=section["num_hidden_layers"],
        heads=heads,
        mlp_width=section["intermediate_size"],
        activation=section["hidden_act"],
        # M2M-100's leaves out those up to padding's.
        positions=section["max_position_embeddings"]
        + (section["pad_token_id"] + 1 if kind == "m2m_100" else 0),
        types=section["type_vocab_size"],
        epsilon=section["layer_norm_eps"],
        pad_id=section["pad_token_id"],
    )
    if config.context_length < 2 or config.pad_id >= config.vocabulary:
        raise CheckpointError(
            f"{where} has {config.positions} positions and the padding {config.pad_id}, which "
            "leaves no text"
        )
    return config


def read_weights(
    tensors: TensorStore,
    name: str,
    config: BertConfig,
    pooling: Literal["first", "mean"],
    projections: tuple[ProjectionWeights, ...],
    hides_all_padding: bool,
) -> BertWeights:
    """The tower, of tensors whose names begin with ``name``.

    Raises:
        CheckpointError: Its tensors are missing or do not fit the config.
    """
    width, place = config.width, f"{name}embeddings"
    positions = tensors.get(f"{place}.position_embeddings.weight", (config.positions, width))
    if config.counted:
        positions = positions.rows(config.pad_id, config.positions)
    types: Tensor | None = None
    if config.types:
        types = tensors.get(f"{place}.token_type_embeddings.weight", (config.types, width))
    parts, layer = (
        (_DISTILBERT_BLOCK, f"{name}transformer.layer")
        if config.kind == "distilbert"
        else (_BERT_BLOCK, f"{name}encoder.layer")
    )
    return BertWeights(
        tokens=tensors.get(f"{place}.word_embeddings.weight", (config.vocabulary, width)),
        positions=positions,
        types=types,
        norm=norm(tensors, f"{place}.LayerNorm", width, config.epsilon),
        blocks=tuple(
            block(tensors, f"{layer}.{index}", parts, config, ACTIVATIONS[config.activation])
            for index in range(config.layers)
        ),
        pad_id=config.pad_id,
        counted=config.counted,
        hides_all_padding=hides_all_padding,
        pooling=pooling,
        projections=projections,
    )

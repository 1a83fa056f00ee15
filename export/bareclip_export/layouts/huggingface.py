"""Tensor names that transformers' CLIPModel, MetaClip2Model and SiglipModel share."""

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import TensorStore
from ..towers.weights import Activation, BlockWeights, NormWeights
from . import named
from .huggingface_config import TransformerConfig

# By transformers' names (activations.py): some compute the same in another way.
ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
}


_BLOCK = named.BlockNames(
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    out="self_attn.out_proj",
    attention_norm="layer_norm1",
    expand="mlp.fc1",
    contract="mlp.fc2",
    mlp_norm="layer_norm2",
)


def blocks(tensors: TensorStore, tower: str, config: TransformerConfig) -> tuple[BlockWeights, ...]:
    """All blocks of ``"vision_model"`` or ``"text_model"``."""
    known = activation(config)
    return tuple(
        named.block(tensors, f"{tower}.encoder.layers.{index}", _BLOCK, config, known)
        for index in range(config.layers)
    )


def norm(tensors: TensorStore, name: str, config: TransformerConfig) -> NormWeights:
    """A layer normalisation of a tower's width."""
    return named.norm(tensors, name, config.width, config.epsilon)


def activation(config: TransformerConfig) -> Activation:
    """The activation by our name.

    Raises:
        CheckpointError: One that we do not author.
    """
    if config.activation not in ACTIVATIONS:
        raise CheckpointError(
            f"the activation {short(config.activation)} of this checkpoint is none that we author "
            f"({', '.join(ACTIVATIONS)}): try --via optimum"
        )
    return ACTIVATIONS[config.activation]

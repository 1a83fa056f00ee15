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


def blocks(tensors: TensorStore, tower: str, config: TransformerConfig) -> tuple[BlockWeights, ...]:
    """All blocks of ``"vision_model"`` or ``"text_model"``."""
    return tuple(
        _block(tensors, f"{tower}.encoder.layers.{index}", config) for index in range(config.layers)
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


def _block(tensors: TensorStore, name: str, config: TransformerConfig) -> BlockWeights:
    width, wide = config.width, config.mlp_width
    query, key, value, out = (
        named.linear(tensors, f"{name}.self_attn.{part}_proj", width, width)
        for part in ("q", "k", "v", "out")
    )
    return BlockWeights(
        heads=config.heads,
        activation=activation(config),
        attention_norm=norm(tensors, f"{name}.layer_norm1", config),
        query=query,
        key=key,
        value=value,
        out=out,
        mlp_norm=norm(tensors, f"{name}.layer_norm2", config),
        expand=named.linear(tensors, f"{name}.mlp.fc1", wide, width),
        contract=named.linear(tensors, f"{name}.mlp.fc2", width, wide),
    )

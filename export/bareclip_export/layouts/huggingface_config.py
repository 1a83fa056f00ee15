"""Hugging Face's config.json of a CLIPModel, with transformers' defaults filled in."""

from dataclasses import dataclass
from typing import Any

from ..checkpoint import Checkpoint
from ..errors import CheckpointError

# transformers 4.57, models/clip/configuration_clip.py: what a config may leave out.
_VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}


@dataclass(frozen=True)
class TransformerConfig:
    """What both towers have."""

    width: int
    mlp_width: int
    layers: int
    heads: int
    activation: str
    epsilon: float


@dataclass(frozen=True)
class ClipConfig:
    """A CLIPModel's sizes.

    Attributes:
        end_id: The id whose first place is pooled; None where it is the highest id's.
    """

    embedding_dim: int
    vision: TransformerConfig
    image_size: int
    patch_size: int
    text: TransformerConfig
    vocabulary: int
    context_length: int
    end_id: int | None


def read_config(checkpoint: Checkpoint) -> ClipConfig:
    """Reads and checks a CLIPModel's config.

    Raises:
        CheckpointError: A value that makes no sense.
    """
    where = str(checkpoint.folder / "config.json")
    vision = _section(checkpoint.config, "vision_config", _VISION_DEFAULTS, where)
    text = _section(checkpoint.config, "text_config", _TEXT_DEFAULTS, where)
    if vision["num_channels"] != 3:
        raise CheckpointError(f"{where} has {vision['num_channels']} channels; we author 3")
    width = checkpoint.config.get("projection_dim", 512)
    if type(width) is not int or width < 1:
        raise CheckpointError(f"{where} has projection_dim = {width!r}, not an int such as 512")
    config = ClipConfig(
        embedding_dim=width,
        vision=_transformer(vision, where),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        text=_transformer(text, where),
        vocabulary=text["vocab_size"],
        context_length=text["max_position_embeddings"],
        # 2 was a mistake in early configs; transformers takes it to mean the highest id.
        end_id=None if text["eos_token_id"] == 2 else text["eos_token_id"],
    )
    if config.patch_size > config.image_size:
        raise CheckpointError(
            f"{where} has patches of {config.patch_size} pixels in images of {config.image_size}"
        )
    return config


def _section(
    config: dict[str, Any], name: str, defaults: dict[str, Any], where: str
) -> dict[str, Any]:
    section = dict(defaults)
    # Early configs repeat a section as "..._dict", which then wins, with its defaults.
    for given in (config.get(name), config.get(f"{name}_dict")):
        if given is None:
            continue
        if not isinstance(given, dict):
            raise CheckpointError(f"{where} has {given!r} for {name}, not an object")
        section |= defaults | given
    for key, default in defaults.items():
        value = section[key]
        if type(value) is not type(default) or (type(value) is not str and value <= 0):
            raise CheckpointError(
                f"{where} has {name}.{key} = {value!r}, not a {type(default).__name__} such as "
                f"{default!r}"
            )
    return section


def _transformer(section: dict[str, Any], where: str) -> TransformerConfig:
    width, heads = section["hidden_size"], section["num_attention_heads"]
    if width % heads:
        raise CheckpointError(f"{where} has {heads} heads in a width of {width}, uneven ones")
    return TransformerConfig(
        width=width,
        mlp_width=section["intermediate_size"],
        layers=section["num_hidden_layers"],
        heads=heads,
        activation=section["hidden_act"],
        epsilon=section["layer_norm_eps"],
    )

"""Hugging Face's config.json of a CLIPModel, a MetaClip2Model or a SiglipModel.

With transformers' defaults: what a config may leave out.
"""

from dataclasses import dataclass
from typing import Any

from bareclip.errors import short

from ..checkpoint import Checkpoint
from ..errors import CheckpointError

Section = dict[str, Any]

# No size of a model is near; what is above it would only fail later, and less clearly.
LARGEST = 10**7

# transformers 4.57, models/clip/configuration_clip.py and models/metaclip_2/.
CLIP_VISION: Section = {
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
CLIP_TEXT: Section = {
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
# models/siglip/configuration_siglip.py.
SIGLIP_VISION: Section = CLIP_VISION | {
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
SIGLIP_TEXT: Section = CLIP_TEXT | {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
# transformers 5 lets a config have lists of these: of height and width, of several end tokens.
_LISTED = ("image_size", "patch_size", "eos_token_id")
# What a config that names no architecture is of, by its model_type.
_OF_TYPE = {
    "chinese_clip": "ChineseCLIPModel",
    "clip": "CLIPModel",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "clip_text_model": "CLIPTextModelWithProjection",
    "M-CLIP": "MultilingualCLIP",
    "metaclip_2": "MetaClip2Model",
    "siglip": "SiglipModel",
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
class VisionConfig(TransformerConfig):
    """A vision tower's sizes."""

    image_size: int
    patch_size: int


@dataclass(frozen=True)
class TextConfig(TransformerConfig):
    """A text tower's sizes.

    Attributes:
        end_id: The id whose first place CLIP pools; None where it is the highest id's.
    """

    vocabulary: int
    context_length: int
    end_id: int | None


def architectures(checkpoint: Checkpoint) -> list[str]:
    """Which of transformers' classes a checkpoint is of, by its model_type where it names none."""
    given = checkpoint.config.get("architectures")
    kind = checkpoint.config.get("model_type")
    if isinstance(given, list) and given:
        return [str(name) for name in given]
    return [_OF_TYPE.get(str(kind), str(kind))] if kind else []


def read_vision(checkpoint: Checkpoint, defaults: Section) -> VisionConfig:
    """Reads and checks the vision tower's part of a config, or all of a tower's own.

    Raises:
        CheckpointError: A value that makes no sense.
    """
    where = checkpoint.config_path
    section = _section(checkpoint.config, "vision_config", defaults, where)
    if section["num_channels"] != 3:
        raise CheckpointError(f"{where} has {section['num_channels']} channels; we author 3")
    size, patch = section["image_size"], section["patch_size"]
    if patch > size:
        raise CheckpointError(f"{where} has patches of {patch} pixels in images of {size}")
    return VisionConfig(**_transformer(section, where), image_size=size, patch_size=patch)


def read_text(checkpoint: Checkpoint, defaults: Section, legacy_end: bool = True) -> TextConfig:
    """Reads and checks the text tower's part of a config, or all of a tower's own.

    Args:
        checkpoint: Whose config it is.
        defaults: What it may leave out.
        legacy_end: Whether an end token of 2 is early configs' mistake, which transformers takes
            to mean the highest id.

    Raises:
        CheckpointError: A value that makes no sense.
    """
    where = checkpoint.config_path
    section = _section(checkpoint.config, "text_config", defaults, where)
    end = section["eos_token_id"]
    return TextConfig(
        **_transformer(section, where),
        vocabulary=section["vocab_size"],
        context_length=section["max_position_embeddings"],
        end_id=None if legacy_end and end == 2 else end,
    )


def read_width(checkpoint: Checkpoint, name: str, default: int) -> int:
    """A width outside of the sections.

    Raises:
        CheckpointError: It is no number.
    """
    width = checkpoint.config.get(name, default)
    if type(width) is not int or not 0 < width < LARGEST:
        raise CheckpointError(
            f"{checkpoint.config_path} has {name} = {short(width)}, not an int such as {default}"
        )
    return width


def _section(config: Section, name: str, defaults: Section, where: str) -> Section:
    section = dict(defaults)
    # A single tower's config has no sections. Early configs repeat a section as "..._dict",
    # which then wins, with its defaults.
    single = not {"vision_config", "text_config"} & set(config)
    for given in (config if single else config.get(name), config.get(f"{name}_dict")):
        if given is None:
            continue
        if not isinstance(given, dict):
            raise CheckpointError(f"{where} has {short(given)} for {name}, not an object")
        section |= defaults | given
    for key, default in defaults.items():
        value = section[key]
        if key in _LISTED and isinstance(value, list) and value:
            if any(type(one) is not int or one != value[0] for one in value):
                raise CheckpointError(
                    f"{where} has {name}.{key} = {short(value)}; we author square images, and one "
                    "end token"
                )
            value = section[key] = value[0]
        if type(value) is not type(default) or (type(value) is not str and not 0 < value < LARGEST):
            raise CheckpointError(
                f"{where} has {name}.{key} = {short(value)}, not a {type(default).__name__} such "
                "as "
                f"{default!r}"
            )
    return section


def _transformer(section: Section, where: str) -> dict[str, Any]:
    width, heads = section["hidden_size"], section["num_attention_heads"]
    if width % heads:
        raise CheckpointError(f"{where} has {heads} heads in a width of {width}, uneven ones")
    return {
        "width": width,
        "mlp_width": section["intermediate_size"],
        "layers": section["num_hidden_layers"],
        "heads": heads,
        "activation": section["hidden_act"],
        "epsilon": section["layer_norm_eps"],
    }

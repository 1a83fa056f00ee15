"""OpenCLIP's open_clip_config.json, with open_clip's defaults; what we do not author is refused."""

from dataclasses import dataclass
from typing import Any, Literal

from bareclip.bundle import CleanUp, ImageRecipe, Interpolation
from bareclip.errors import short

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..image_recipe import LARGEST_IMAGE, OPENAI_MEAN, OPENAI_STD

Section = dict[str, Any]

# No size of a model is near; what is above it would only fail later, and less clearly.
LARGEST = 10**7

# open_clip 3.3, model.py, CLIPVisionCfg and CLIPTextCfg. What stands under ..._REFUSED changes
# an answer in a way that we do not author, so it must be as it is here.
_VISION: Section = {
    "layers": 12,
    "width": 768,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "patch_size": 16,
    "image_size": 224,
    "no_ln_pre": False,
    "pool_type": "tok",
    "final_ln_after_pool": False,
    "act_kwargs": None,
    "norm_kwargs": None,
    "timm_model_name": None,
    "timm_pool": "avg",
    "timm_proj": "linear",
}
_VISION_REFUSED: Section = {
    "ls_init_value": None,
    "attentional_pool": False,
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}
_TEXT: Section = {
    "context_length": 77,
    "vocab_size": 49408,
    "hf_tokenizer_name": None,
    "tokenizer_kwargs": None,
    "width": 512,
    "heads": 8,
    "layers": 12,
    "mlp_ratio": 4.0,
    "eos_id": 2,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "proj_type": "linear",
    "act_kwargs": None,
    "norm_kwargs": None,
    "hf_model_name": None,
    "hf_proj_type": "mlp",
    "hf_pooler_type": "mean_pooler",
}
_TEXT_REFUSED: Section = {
    "tokenizer_mode": None,
    "embed_cls": False,
} | {k: v for k, v in _VISION_REFUSED.items() if k != "attentional_pool"}
# These only matter in training, or to other outputs.
_INERT = {
    "patch_dropout", "output_tokens", "pos_embed_type", "attn_pooler_queries", "attn_pooler_heads",
    "timm_model_pretrained", "timm_proj_bias", "timm_drop", "timm_drop_path",
     "pad_id", "hf_model_pretrained",
}  # fmt: skip

_RESIZES: dict[str, Literal["shortest", "squash"]] = {"shortest": "shortest", "squash": "squash"}
# "random" is for training; open_clip takes it to be bicubic elsewhere.
_INTERPOLATIONS: dict[str, Interpolation] = {
    "bicubic": "bicubic",
    "bilinear": "bilinear",
    "random": "bicubic",
}

# open_clip 3.3, tokenizer.py: basic_clean and what follows it.
_BASIC: tuple[CleanUp, ...] = ("fix_text", "unescape_html")
CLEAN_UPS: dict[str, tuple[CleanUp, ...]] = {
    "lower": (*_BASIC, "collapse_whitespace", "lowercase"),
    "whitespace": (*_BASIC, "collapse_whitespace"),
    "canonicalize": (
        *_BASIC, "underscores_to_spaces", "remove_punctuation", "lowercase", "collapse_whitespace",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class OpenClipConfig:
    """Sizes and choices, as open_clip would take them.

    Attributes:
        vision, text: By open_clip's names, its defaults filled in.
    """

    embedding_dim: int
    quick_gelu: bool
    vision: Section
    text: Section
    where: str

    @property
    def image_size(self) -> int:
        size = self.vision["image_size"]
        if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
            size = size[0]
        if type(size) is not int or not 0 < size <= LARGEST_IMAGE:
            raise CheckpointError(
                f"{self.where} has image_size {short(size)}; we author square images of "
                f"up to {LARGEST_IMAGE} pixels a side"
            )
        return size

    def activation(self, section: Section) -> str:
        """The activation of a tower, by transformers' name.

        Raises:
            CheckpointError: One that we do not author.
        """
        given = section["act_kwargs"]
        if self.quick_gelu and not given:
            return "quick_gelu"
        if not given or given == {"approximate": "none"}:
            return "gelu"
        if given == {"approximate": "tanh"} and not self.quick_gelu:
            return "gelu_pytorch_tanh"
        raise CheckpointError(
            f"{self.where} has the unknown act_kwargs {short(given)} with quick_gelu "
            f"{self.quick_gelu}; known is approximate tanh, without quick_gelu"
        )

    def epsilon(self, section: Section) -> float:
        """Of a tower's layer normalisations; 1e-5 is torch.nn.LayerNorm's."""
        given = section["norm_kwargs"] or {}
        if type(given) is not dict or set(given) - {"eps"}:
            raise CheckpointError(f"{self.where} has the unknown norm_kwargs {short(given)}")
        epsilon = given.get("eps", 1e-5)
        _check_number(epsilon, 1e-5, f"{self.where} has norm_kwargs.eps")
        return float(epsilon)


def read_config(checkpoint: Checkpoint) -> OpenClipConfig:
    """Reads and checks open_clip_config.json.

    Raises:
        CheckpointError: No model_cfg, or something in it that is unknown.
    """
    where = checkpoint.config_path
    model = checkpoint.config.get("model_cfg")
    if not isinstance(model, dict) or type(model.get("embed_dim")) is not int:
        raise CheckpointError(f"{where} has no model_cfg with an embed_dim; download it again")
    if "multimodal_cfg" in model:
        raise CheckpointError(f"{where} describes a CoCa (multimodal_cfg), which we do not author")
    return OpenClipConfig(
        embedding_dim=model["embed_dim"],
        quick_gelu=bool(model.get("quick_gelu", False)),
        vision=_section(model, "vision_cfg", _VISION, _VISION_REFUSED, where),
        text=_section(model, "text_cfg", _TEXT, _TEXT_REFUSED, where),
        where=where,
    )


def read_image_recipe(checkpoint: Checkpoint, config: OpenClipConfig) -> ImageRecipe:
    """What open_clip's evaluation transform does, as a recipe (its transform.py).

    Raises:
        CheckpointError: An unknown interpolation or way of resizing.
    """
    given = checkpoint.config.get("preprocess_cfg") or {}
    if not isinstance(given, dict):
        raise CheckpointError(
            f"{config.where} has {short(given)} for preprocess_cfg, not an object"
        )
    resize = given.get("resize_mode") or "shortest"
    interpolation = given.get("interpolation") or "bicubic"
    for field, value, known in (
        ("resize_mode", resize, _RESIZES),
        ("interpolation", interpolation, _INTERPOLATIONS),
    ):
        if str(value) not in known:
            raise CheckpointError(
                f"{config.where} has the unknown {field} {short(value)}; known are "
                f"{', '.join(known)}"
            )
    return ImageRecipe(
        size=config.image_size,
        resize=_RESIZES[resize],
        resize_to=config.image_size,
        interpolation=_INTERPOLATIONS[interpolation],
        crop_offset="round",
        mean=_channels(given.get("mean") or OPENAI_MEAN, config.where),
        std=_channels(given.get("std") or OPENAI_STD, config.where),
        scale=1 / 255,
        layout="uint8_nhwc",
    )


def text_pooling(config: OpenClipConfig) -> int | Literal["highest", "last"]:
    """Which token leaves the text tower.

    Raises:
        CheckpointError: One that we do not author.
    """
    pooling = {"argmax": "highest", "last": "last", "eos": config.text["eos_id"]}
    name = config.text["pool_type"]
    if str(name) not in pooling:
        raise CheckpointError(
            f"{config.where} has the unknown text pool_type {short(name)}; known are "
            f"{', '.join(pooling)}"
        )
    return pooling[name]


def _channels(values: Any, where: str) -> tuple[float, float, float]:
    if type(values) in (int, float):
        values = [values] * 3
    numbers = isinstance(values, list) and all(
        type(v) in (int, float) and abs(v) < 1e6 for v in values
    )
    if not numbers or len(values) != 3:
        raise CheckpointError(f"{where} has {short(values)} where three numbers are due")
    return (float(values[0]), float(values[1]), float(values[2]))


def _section(model: Section, name: str, defaults: Section, refused: Section, where: str) -> Section:
    given = model.get(name)
    if not isinstance(given, dict):
        raise CheckpointError(f"{where} has {short(given)} for {name}, not an object")
    for key, value in given.items():
        if key in refused and value != refused[key] and value not in (False, None):
            raise CheckpointError(
                f"{where} has {name}.{key} = {short(value)}, which we do not author; it would have "
                f"to be {refused[key]!r}"
            )
        if key not in defaults and key not in refused and key not in _INERT:
            raise CheckpointError(f"{where} has the unknown field {name}.{key} = {short(value)}")
    section = defaults | {key: value for key, value in given.items() if key in defaults}
    for key, default in defaults.items():
        if type(default) in (int, float, bool) and key not in (
            "layers",
            "patch_size",
            "image_size",
        ):
            _check_number(section[key], default, f"{where} has {name}.{key}")
    return section


def _check_number(value: Any, default: Any, what: str) -> None:
    wanted = (int, float) if type(default) is float else (type(default),)
    if type(value) not in wanted or (type(default) is not bool and not 0 < value < LARGEST):
        raise CheckpointError(f"{what} = {short(value)}, not such as {default!r}")

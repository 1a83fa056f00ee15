"""OpenCLIP's folders (open_clip_config.json): its tensor names, and which towers they are."""

import tokenizers

from bareclip.bundle import CleanUp, Scoring, TextRecipe
from bareclip.errors import short

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..tensors import TensorStore
from ..text_recipe import read_openai_tokenizer, read_own_tokenizer, tokenizer_class
from ..towers.weights import (
    BlockWeights,
    TextTransformerWeights,
    VisionTransformerWeights,
)
from . import open_clip_bert, open_clip_clipa, open_clip_resnet, open_clip_timm
from .huggingface import ACTIVATIONS
from .model import Model, Text, Vision, VisionWeights
from .named import linear, norm, packed
from .open_clip_config import (
    CLEAN_UPS,
    LARGEST,
    OpenClipConfig,
    Section,
    read_config,
    read_image_recipe,
    text_pooling,
)


def read(checkpoint: Checkpoint) -> Model:
    """Reads a folder of OpenCLIP's.

    Raises:
        CheckpointError: Its config, tokenizer or tensors are missing, unknown or do not fit.
    """
    config, tensors = read_config(checkpoint), checkpoint.tensors
    image = read_image_recipe(checkpoint, config)
    bert = config.text["hf_model_name"] is not None
    tokens = None if bert else _tokenizer(checkpoint, config)
    vision = Vision(_vision(tensors, config), image)
    if tokens is None:
        text = open_clip_bert.read(checkpoint, config, _clean_up(config))
    else:
        text = Text(_text(tensors, config), *tokens)
    return Model(
        architecture=f"open_clip {_kind(config)}",
        embedding_dim=config.embedding_dim,
        scoring=_scoring(tensors),
        vision=vision,
        text=text,
    )


def transformer_blocks(
    tensors: TensorStore, name: str, config: OpenClipConfig, section: Section, heads: int
) -> tuple[BlockWeights, ...]:
    """All blocks of a tower of open_clip's own; their projections are packed into one."""
    activation = ACTIVATIONS[config.activation(section)]
    width, epsilon = section["width"], config.epsilon(section)
    wide, layers = int(width * section["mlp_ratio"]), section["layers"]
    if type(layers) is not int or not 0 < layers < LARGEST:
        raise CheckpointError(f"{config.where} has layers = {short(layers)}, not such as 12")
    if heads < 1 or width % heads:
        raise CheckpointError(f"{config.where} has {heads} heads in a width of {width}")

    def block(layer: str) -> BlockWeights:
        query, key, value = packed(
            tensors, f"{layer}.attn.in_proj_weight", f"{layer}.attn.in_proj_bias", width, 3
        )
        return BlockWeights(
            heads=heads,
            activation=activation,
            attention_norm=norm(tensors, f"{layer}.ln_1", width, epsilon),
            query=query,
            key=key,
            value=value,
            out=linear(tensors, f"{layer}.attn.out_proj", width, width),
            mlp_norm=norm(tensors, f"{layer}.ln_2", width, epsilon),
            expand=linear(tensors, f"{layer}.mlp.c_fc", wide, width),
            contract=linear(tensors, f"{layer}.mlp.c_proj", width, wide),
        )

    return tuple(block(f"{name}.resblocks.{index}") for index in range(layers))


def _kind(config: OpenClipConfig) -> str:
    if config.vision["timm_model_name"] is not None:
        return str(config.vision["timm_model_name"])
    return "ModifiedResNet" if isinstance(config.vision["layers"], list) else "VisionTransformer"


def _scoring(tensors: TensorStore) -> Scoring:
    """Sigmoid where there is a bias, as in SigLIP; softmax where there is none."""
    scale = tensors.scalar("logit_scale")
    if "logit_bias" in tensors:
        return Scoring("sigmoid", scale, tensors.scalar("logit_bias"))
    return Scoring("softmax", scale, 0.0)


def _clean_up(config: OpenClipConfig) -> tuple[CleanUp, ...]:
    given = config.text["tokenizer_kwargs"] or {}
    own = config.text["hf_tokenizer_name"] is not None
    others = (open_clip_clipa.SETTING,) if config.text["hf_model_name"] is None else ()
    known = isinstance(given, dict) and not set(given) - {"clean", *others}
    name = str(given.get("clean", "whitespace" if own else "lower")) if known else ""
    if name not in CLEAN_UPS:
        raise CheckpointError(
            f"{config.where} has the unknown tokenizer_kwargs {short(given)}; known is "
            f"{', '.join((*others, 'clean'))}, of {', '.join(CLEAN_UPS)}"
        )
    return CLEAN_UPS[name]


def _tokenizer(
    checkpoint: Checkpoint, config: OpenClipConfig
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    text, pooling, clean_up = config.text, text_pooling(config), _clean_up(config)
    if open_clip_clipa.asks(config):
        return open_clip_clipa.read_tokenizer(checkpoint, config, clean_up)
    own = text["hf_tokenizer_name"] is not None
    sizes = text["context_length"], text["vocab_size"]
    if not own:
        if pooling != "highest":
            raise CheckpointError(
                f"{config.where} has CLIP's tokenizer with pool_type {short(text['pool_type'])}, a "
                "combination we do not author"
            )
        return read_openai_tokenizer(checkpoint, *sizes, clean_up, text["no_causal_mask"])
    tokenizer_class(checkpoint)
    if not any((checkpoint.folder / n).is_file() for n in ("tokenizer.json", "spiece.model")):
        raise CheckpointError(
            f"{checkpoint.folder} has no tokenizer.json: take it, and tokenizer_config.json, from "
            f"{short(text['hf_tokenizer_name'])[1:-1]}"
        )
    fixed = bool(text["no_causal_mask"]) or pooling == "last"
    tokenizer, recipe = read_own_tokenizer(checkpoint, *sizes, clean_up, fixed)
    if type(pooling) is int and recipe.end_id != pooling:
        raise CheckpointError(
            f"{config.where} says texts end with token {pooling}, its tokenizer ends them with "
            f"{recipe.end_id}: they do not belong together"
        )
    if pooling == "highest":
        raise CheckpointError(
            f"{config.where} pools the highest id of the tokenizer "
            f"{short(text['hf_tokenizer_name'])}, which need not be its end token; we do not "
            "author that"
        )
    return tokenizer, recipe


def _vision(tensors: TensorStore, config: OpenClipConfig) -> VisionWeights:
    section = config.vision
    if section["timm_model_name"] is not None:
        return open_clip_timm.read(tensors, config)
    if isinstance(section["layers"], list):
        return open_clip_resnet.read(tensors, config)
    width, patch, size = section["width"], section["patch_size"], config.image_size
    if type(patch) is not int or not 1 <= patch <= size:
        raise CheckpointError(f"{config.where} has patch_size {short(patch)} in images of {size}")
    if section["pool_type"] not in ("tok", "avg"):
        raise CheckpointError(
            f"{config.where} has the unknown pool_type {short(section['pool_type'])}; known are "
            "tok, avg"
        )
    average = "average" if section["final_ln_after_pool"] else "average_of_normed"
    epsilon = config.epsilon(section)
    return VisionTransformerWeights(
        image_size=size,
        patch_size=patch,
        patch=tensors.get("visual.conv1.weight", (width, 3, patch, patch)),
        patch_bias=None,
        class_embedding=tensors.get("visual.class_embedding", (width,)),
        positions=tensors.get("visual.positional_embedding", (1 + (size // patch) ** 2, width)),
        pre_norm=None if section["no_ln_pre"] else norm(tensors, "visual.ln_pre", width, epsilon),
        blocks=transformer_blocks(
            tensors, "visual.transformer", config, section, width // section["head_width"]
        ),
        post_norm=norm(tensors, "visual.ln_post", width, epsilon),
        pooling="class" if section["pool_type"] == "tok" else average,  # type: ignore[arg-type]
        projection=tensors.get("visual.proj", (width, config.embedding_dim)).transposed(),
    )


def _text(tensors: TensorStore, config: OpenClipConfig) -> TextTransformerWeights:
    prefix = "text." if "text.token_embedding.weight" in tensors else ""
    section = config.text
    width, out = section["width"], config.embedding_dim
    projection = bias = None
    name = f"{prefix}text_projection"
    if section["proj_type"] not in ("linear", "none"):
        raise CheckpointError(
            f"{config.where} has the unknown proj_type {short(section['proj_type'])}; known are "
            "linear "
            "and none"
        )
    if section["proj_type"] == "linear" and section["proj_bias"]:
        projection = tensors.get(f"{name}.weight", (out, width))
        bias = tensors.get(f"{name}.bias", (out,))
    elif section["proj_type"] == "linear":
        projection = tensors.get(name, (width, out)).transposed()
    return TextTransformerWeights(
        tokens=tensors.get(f"{prefix}token_embedding.weight", (section["vocab_size"], width)),
        positions=tensors.get(f"{prefix}positional_embedding", (section["context_length"], width)),
        causal=not section["no_causal_mask"],
        pooling=text_pooling(config),
        blocks=transformer_blocks(
            tensors, f"{prefix}transformer", config, section, section["heads"]
        ),
        post_norm=norm(tensors, f"{prefix}ln_final", width, config.epsilon(section)),
        projection=projection,
        projection_bias=bias,
    )

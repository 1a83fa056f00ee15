"""MobileCLIP's vision transformers in OpenCLIP's folders, which are timm's: B, and 2's L/14."""

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import TensorStore
from ..towers.convolutional_weights import StemmedTransformerWeights
from ..towers.weights import VisionTransformerWeights
from .named import norm, normed
from .open_clip_config import OpenClipConfig
from .open_clip_siglip import Trunk, block

_TRUNK = "visual.trunk"
# timm 1.0, vision_transformer_hybrid.py: whose patches are what convolutions make of squares.
STEMMED = {"vit_base_mci_224": Trunk(768, 12, 12, 4.0, "gelu")}
# Its convolutions' sides, and how often its width their width is.
_STEM, _LAST, _STEM_RATIO = (4, 2), 2, 4
# And vision_transformer.py, with its patches' side.
PLAIN = {"vit_large_patch14_clip_224": (Trunk(1024, 24, 16, 4.0, "gelu", 1e-5), 14)}


def read(
    tensors: TensorStore, config: OpenClipConfig
) -> VisionTransformerWeights | StemmedTransformerWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Pooled or projected in another way, or its tensors are missing or do not
            fit the config.
    """
    model = config.vision["timm_model_name"]
    pool, proj = config.vision["timm_pool"], config.vision["timm_proj"]
    if pool != "token" or proj is not None:
        raise CheckpointError(
            f"{config.where} has timm_pool {short(pool)} and timm_proj {short(proj)}; we author "
            f"{model} with 'token', and null"
        )
    if model in PLAIN:
        sizes, patch = PLAIN[model]
        return _transformer(tensors, config, sizes, f"{_TRUNK}.patch_embed.proj", 3, patch, patch)
    sizes, stem = STEMMED[model], f"{_TRUNK}.patch_embed.backbone"
    inner = sizes.width // _STEM_RATIO
    first, second = _STEM
    return StemmedTransformerWeights(
        stem=(
            normed(tensors, f"{stem}.0.conv", f"{stem}.0.bn", (inner, 3, first, first)),
            normed(tensors, f"{stem}.1.conv", f"{stem}.1.bn", (inner, inner, second, second)),
        ),
        transformer=_transformer(
            tensors, config, sizes, f"{stem}.2.conv", inner, _LAST, first * second * _LAST
        ),
    )


def _transformer(
    tensors: TensorStore,
    config: OpenClipConfig,
    sizes: Trunk,
    patch: str,
    into: int,
    side: int,
    stride: int,
) -> VisionTransformerWeights:
    """The transformer; its patches have ``side`` places of what it is given, ``stride`` pixels."""
    width, size, plain = sizes.width, config.image_size, side == stride
    if size % stride:
        raise CheckpointError(
            f"{config.where} has images of {size}; we author sizes that {stride} divides"
        )
    places = (size // stride) ** 2
    # timm's no_embed_class: the stemmed one's class token has no position.
    return VisionTransformerWeights(
        image_size=size,
        patch_size=side,
        patch=tensors.get(f"{patch}.weight", (width, into, side, side)),
        patch_bias=None if plain else tensors.get(f"{patch}.bias", (width,)),
        class_embedding=tensors.get(f"{_TRUNK}.cls_token", (1, 1, width)).first().first(),
        positions=tensors.get(f"{_TRUNK}.pos_embed", (1, places + plain, width)).first(),
        pre_norm=norm(tensors, f"{_TRUNK}.norm_pre", width, sizes.epsilon) if plain else None,
        blocks=tuple(
            block(tensors, f"{_TRUNK}.blocks.{index}", sizes) for index in range(sizes.layers)
        ),
        post_norm=norm(tensors, f"{_TRUNK}.norm", width, sizes.epsilon),
        pooling="class",
        projection=tensors.get(f"{_TRUNK}.head.weight", (config.embedding_dim, width)),
        projection_bias=tensors.get(f"{_TRUNK}.head.bias", (config.embedding_dim,)),
    )

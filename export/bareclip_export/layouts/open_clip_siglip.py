"""SigLIP's vision tower in OpenCLIP's folders, which is timm's: its sizes and tensor names."""

from dataclasses import dataclass

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import TensorStore
from ..towers.weights import (
    Activation,
    AttentionPoolingWeights,
    BlockWeights,
    VisionTransformerWeights,
)
from .named import linear, norm, packed
from .open_clip_config import OpenClipConfig

# timm 1.0, vision_transformer.py.
EPSILON = 1e-6


@dataclass(frozen=True)
class Trunk:
    """A ViT of timm's."""

    width: int
    layers: int
    heads: int
    mlp_ratio: float
    activation: Activation
    epsilon: float = EPSILON


# timm 1.0, vision_transformer.py, by the part of a model's name before the image size.
TRUNKS = {
    "vit_base_patch32_siglip": Trunk(768, 12, 12, 4.0, "gelu_tanh"),
    "vit_base_patch16_siglip": Trunk(768, 12, 12, 4.0, "gelu"),
    "vit_large_patch16_siglip": Trunk(1024, 24, 16, 4.0, "gelu"),
    "vit_so400m_patch14_siglip": Trunk(1152, 27, 16, 3.7362, "gelu"),
    "vit_so400m_patch16_siglip": Trunk(1152, 27, 16, 3.7362, "gelu_tanh"),
    "vit_giantopt_patch16_siglip": Trunk(1536, 40, 16, 4.0, "gelu_tanh"),
}
# The one whose size decides more than its positions.
TRUNKS_OF_SIZE = {"vit_large_patch16_siglip_512": Trunk(1024, 24, 16, 4.0, "gelu_tanh")}


def trunk(config: OpenClipConfig) -> tuple[Trunk, int]:
    """The tower's sizes, and its patches' side.

    Raises:
        CheckpointError: None of SigLIP's, or pooled or projected in another way.
    """
    name = str(config.vision["timm_model_name"])
    found = TRUNKS_OF_SIZE.get(name) or TRUNKS.get(name.rpartition("_")[0])
    if found is None:
        raise CheckpointError(
            f"{config.where} has the timm model {short(name)}; we author {', '.join(TRUNKS)}"
        )
    pool, proj = config.vision["timm_pool"], config.vision["timm_proj"]
    if (pool, proj) != ("map", "none"):
        raise CheckpointError(
            f"{config.where} has timm_pool {short(pool)} and timm_proj {short(proj)}; we author "
            "'map', 'none'"
        )
    return found, int(name.partition("_patch")[2].partition("_")[0])


def read(tensors: TensorStore, config: OpenClipConfig) -> VisionTransformerWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Its tensors are missing or do not fit the config.
    """
    sizes, patch = trunk(config)
    width, size, name = sizes.width, config.image_size, "visual.trunk"
    patches = (size // patch) ** 2
    if width != config.embedding_dim:
        raise CheckpointError(
            f"{config.where} has embed_dim {config.embedding_dim} and no projection from the "
            f"vision tower's {width}"
        )
    return VisionTransformerWeights(
        image_size=size,
        patch_size=patch,
        patch=tensors.get(f"{name}.patch_embed.proj.weight", (width, 3, patch, patch)),
        patch_bias=tensors.get(f"{name}.patch_embed.proj.bias", (width,)),
        class_embedding=None,
        positions=tensors.get(f"{name}.pos_embed", (1, patches, width)).first(),
        pre_norm=None,
        blocks=tuple(
            block(tensors, f"{name}.blocks.{index}", sizes) for index in range(sizes.layers)
        ),
        post_norm=norm(tensors, f"{name}.norm", width, EPSILON),
        pooling=attention_pooling(tensors, f"{name}.attn_pool", sizes),
        projection=None,
    )


def block(tensors: TensorStore, name: str, sizes: Trunk) -> BlockWeights:
    """A block of timm's, whose queries, keys and values are kept as one."""
    width, wide = sizes.width, int(sizes.width * sizes.mlp_ratio)
    query, key, value = packed(
        tensors, f"{name}.attn.qkv.weight", f"{name}.attn.qkv.bias", width, 3
    )
    return BlockWeights(
        heads=sizes.heads,
        activation=sizes.activation,
        attention_norm=norm(tensors, f"{name}.norm1", width, sizes.epsilon),
        query=query,
        key=key,
        value=value,
        out=linear(tensors, f"{name}.attn.proj", width, width),
        mlp_norm=norm(tensors, f"{name}.norm2", width, sizes.epsilon),
        expand=linear(tensors, f"{name}.mlp.fc1", wide, width),
        contract=linear(tensors, f"{name}.mlp.fc2", width, wide),
    )


def attention_pooling(tensors: TensorStore, name: str, sizes: Trunk) -> AttentionPoolingWeights:
    """An AttentionPoolLatent of timm's, of as many heads as ``sizes`` has."""
    width, wide = sizes.width, int(sizes.width * sizes.mlp_ratio)
    key, value = packed(tensors, f"{name}.kv.weight", f"{name}.kv.bias", width, 2)
    return AttentionPoolingWeights(
        heads=sizes.heads,
        activation=sizes.activation,
        probe=tensors.get(f"{name}.latent", (1, 1, width)).first().first(),
        query=linear(tensors, f"{name}.q", width, width),
        key=key,
        value=value,
        out=linear(tensors, f"{name}.proj", width, width),
        norm=norm(tensors, f"{name}.norm", width, sizes.epsilon),
        expand=linear(tensors, f"{name}.mlp.fc1", wide, width),
        contract=linear(tensors, f"{name}.mlp.fc2", width, wide),
    )

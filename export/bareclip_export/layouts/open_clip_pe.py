"""The Perception Encoder's vision towers in OpenCLIP's folders: their sizes and tensor names."""

from dataclasses import dataclass

from ..tensors import TensorStore
from ..towers.eva_weights import EvaBlockWeights, EvaWeights, Rotation
from . import open_clip_siglip
from .named import linear, norm, packed
from .open_clip_config import OpenClipConfig
from .open_clip_eva import checked_trunk

_TRUNK, _EPSILON = "visual.trunk", 1e-5
# timm 1.0, eva.py: attn_pool_num_heads and attn_pool_mlp_ratio.
_POOLING_HEADS, _POOLING_RATIO = 8, 4.0


@dataclass(frozen=True)
class Trunk:
    """A tower.

    Attributes:
        hidden: Units of an MLP.
        patch, size: Pixels per side, of a patch and of an image.
        class_token: Whether there is one; the patches' places then begin with 1.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch: int
    size: int
    class_token: bool = True


# timm 1.0, eva.py.
TRUNKS = {
    "vit_pe_core_tiny_patch16_384": Trunk(192, 12, 3, 768, 16, 384),
    "vit_pe_core_small_patch16_384": Trunk(384, 12, 6, 1536, 16, 384),
    "vit_pe_core_base_patch16_224": Trunk(768, 12, 12, 3072, 16, 224),
    "vit_pe_core_large_patch14_336": Trunk(1024, 24, 16, 4096, 14, 336),
    "vit_pe_core_gigantic_patch14_448": Trunk(1536, 50, 16, 8960, 14, 448, class_token=False),
}


def read(tensors: TensorStore, config: OpenClipConfig) -> EvaWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Pooled or projected in another way, of another image size than its name
            says; or its tensors are missing or do not fit.
    """
    trunk = TRUNKS[config.vision["timm_model_name"]]
    checked_trunk(config, trunk.size, "map")
    width, grid, first = trunk.width, trunk.size // trunk.patch, int(trunk.class_token)
    token = None
    if trunk.class_token:
        token = tensors.get(f"{_TRUNK}.cls_token", (1, 1, width)).first().first()
    pooling = open_clip_siglip.Trunk(width, 1, _POOLING_HEADS, _POOLING_RATIO, "gelu", _EPSILON)
    patch = f"{_TRUNK}.patch_embed.proj.weight"
    return EvaWeights(
        image_size=trunk.size,
        patch_size=trunk.patch,
        patch=tensors.get(patch, (width, 3, trunk.patch, trunk.patch)),
        patch_bias=None,
        class_embedding=token,
        positions=tensors.get(f"{_TRUNK}.pos_embed", (1, first + grid**2, width)).first(),
        pre_norm=norm(tensors, f"{_TRUNK}.norm_pre", width, _EPSILON),
        blocks=tuple(
            _block(tensors, f"{_TRUNK}.blocks.{index}", trunk) for index in range(trunk.layers)
        ),
        post_norm=norm(tensors, f"{_TRUNK}.norm", width, _EPSILON),
        pooling=open_clip_siglip.attention_pooling(tensors, f"{_TRUNK}.attn_pool", pooling),
        projection=tensors.get(f"{_TRUNK}.head.weight", (config.embedding_dim, width)),
        projection_bias=tensors.get(f"{_TRUNK}.head.bias", (config.embedding_dim,)),
        rotation=Rotation(grid, reference=grid, offset=first, columns_first=True),
    )


def _block(tensors: TensorStore, name: str, trunk: Trunk) -> EvaBlockWeights:
    width, hidden = trunk.width, trunk.hidden
    query, key, value = packed(
        tensors, f"{name}.attn.qkv.weight", f"{name}.attn.qkv.bias", width, 3
    )
    return EvaBlockWeights(
        heads=trunk.heads,
        activation="gelu",
        attention_norm=norm(tensors, f"{name}.norm1", width, _EPSILON),
        query=query,
        key=key,
        value=value,
        out=linear(tensors, f"{name}.attn.proj", width, width),
        mlp_norm=norm(tensors, f"{name}.norm2", width, _EPSILON),
        expand=linear(tensors, f"{name}.mlp.fc1", hidden, width),
        contract=linear(tensors, f"{name}.mlp.fc2", width, hidden),
        biased_keys=True,
    )

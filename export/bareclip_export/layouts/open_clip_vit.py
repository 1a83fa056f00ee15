"""timm's plain ViTs in OpenCLIP's folders, as BiomedCLIP has one: their sizes and tensor names."""

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import TensorStore
from ..towers.weights import VisionTransformerWeights
from .named import norm
from .open_clip_config import OpenClipConfig
from .open_clip_siglip import EPSILON, Trunk, block

# timm 1.0, vision_transformer.py, by name: the tower, its patches' side and its image size.
TRUNKS: dict[str, tuple[Trunk, int, int]] = {
    "vit_base_patch16_224": (Trunk(768, 12, 12, 4.0, "gelu"), 16, 224),
}


def read(tensors: TensorStore, config: OpenClipConfig) -> VisionTransformerWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Pooled or projected in another way, of another image size than its name
            says; or its tensors are missing or do not fit.
    """
    sizes, patch, size = TRUNKS[config.vision["timm_model_name"]]
    pool, proj = config.vision["timm_pool"], config.vision["timm_proj"]
    if pool not in ("", "token") or proj != "linear" or "visual.head.proj.bias" in tensors:
        raise CheckpointError(
            f"{config.where} has timm_pool {short(pool)} and timm_proj {short(proj)}; we author "
            "'' or 'token', and 'linear' without bias"
        )
    if config.image_size != size:
        raise CheckpointError(
            f"{config.where} has images of {config.image_size} pixels for "
            f"{config.vision['timm_model_name']}; we author it with {size}"
        )
    width, name = sizes.width, "visual.trunk"
    tokens = 1 + (size // patch) ** 2
    return VisionTransformerWeights(
        image_size=size,
        patch_size=patch,
        patch=tensors.get(f"{name}.patch_embed.proj.weight", (width, 3, patch, patch)),
        patch_bias=tensors.get(f"{name}.patch_embed.proj.bias", (width,)),
        class_embedding=tensors.get(f"{name}.cls_token", (1, 1, width)).first().first(),
        positions=tensors.get(f"{name}.pos_embed", (1, tokens, width)).first(),
        pre_norm=None,
        blocks=tuple(
            block(tensors, f"{name}.blocks.{index}", sizes) for index in range(sizes.layers)
        ),
        post_norm=norm(tensors, f"{name}.norm", width, EPSILON),
        pooling="class",
        projection=tensors.get("visual.head.proj.weight", (config.embedding_dim, width)),
    )

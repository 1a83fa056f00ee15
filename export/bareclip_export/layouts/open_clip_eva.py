"""EVA's vision towers in OpenCLIP's folders, which are timm's: their sizes and tensor names."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import Tensor, TensorStore
from ..towers.eva_weights import EvaBlockWeights, EvaWeights, GateWeights, Rotation
from ..towers.weights import LinearWeights
from .named import linear, norm
from .open_clip_config import OpenClipConfig

_TRUNK, _EPSILON = "visual.trunk", 1e-6
# timm 1.0, eva.py: ref_feat_shape.
_REFERENCE = 16


@dataclass(frozen=True)
class Trunk:
    """A tower.

    Attributes:
        hidden: Units of an MLP.
        patch, size: Pixels per side, of a patch and of an image.
        kind: ``"eva"`` as EVA-01's are; ``"rotary"``, with rotated queries and keys, gated MLPs and
            normalisations within; ``"post"``, whose normalisations come after.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    patch: int
    size: int
    kind: Literal["eva", "rotary", "post"]


# timm 1.0, eva.py.
TRUNKS = {
    "eva_giant_patch14_224": Trunk(1408, 40, 16, 6144, 14, 224, "eva"),
    "eva02_base_patch16_clip_224": Trunk(768, 12, 12, 2048, 16, 224, "rotary"),
    "eva02_large_patch14_clip_224": Trunk(1024, 24, 16, 2730, 14, 224, "rotary"),
    "eva02_large_patch14_clip_336": Trunk(1024, 24, 16, 2730, 14, 336, "rotary"),
    "eva02_enormous_patch14_clip_224": Trunk(1792, 64, 16, 15360, 14, 224, "post"),
}


def checked_trunk(config: OpenClipConfig, size: int, pooled: str) -> None:
    """Refuses a tower of timm's that is used otherwise than its name says.

    Raises:
        CheckpointError: Images of another size, another ``timm_pool``, or a projection of its own.
    """
    model = config.vision["timm_model_name"]
    pool, proj = config.vision["timm_pool"], config.vision["timm_proj"]
    if (pool, proj, config.image_size) != (pooled, None, size):
        raise CheckpointError(
            f"{config.where} has timm_pool {short(pool)}, timm_proj {short(proj)} and images of "
            f"{config.image_size}; we author {model} with {pooled!r}, null and {size}"
        )


def read(tensors: TensorStore, config: OpenClipConfig) -> EvaWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Pooled or projected in another way, of another image size than its name
            says; or its tensors are missing or do not fit.
    """
    trunk = TRUNKS[config.vision["timm_model_name"]]
    checked_trunk(config, trunk.size, "token")
    width, grid = trunk.width, trunk.size // trunk.patch
    patch = f"{_TRUNK}.patch_embed.proj"
    return EvaWeights(
        image_size=trunk.size,
        patch_size=trunk.patch,
        patch=tensors.get(f"{patch}.weight", (width, 3, trunk.patch, trunk.patch)),
        patch_bias=tensors.get(f"{patch}.bias", (width,)),
        class_embedding=tensors.get(f"{_TRUNK}.cls_token", (1, 1, width)).first().first(),
        positions=tensors.get(f"{_TRUNK}.pos_embed", (1, 1 + grid**2, width)).first(),
        pre_norm=None,
        blocks=tuple(
            _block(tensors, f"{_TRUNK}.blocks.{index}", trunk) for index in range(trunk.layers)
        ),
        post_norm=norm(tensors, f"{_TRUNK}.norm", width, _EPSILON),
        pooling="class",
        projection=tensors.get(f"{_TRUNK}.head.weight", (config.embedding_dim, width)),
        projection_bias=tensors.get(f"{_TRUNK}.head.bias", (config.embedding_dim,)),
        rotation=Rotation(grid, _REFERENCE, 0, False) if trunk.kind == "rotary" else None,
    )


def _block(tensors: TensorStore, name: str, trunk: Trunk) -> EvaBlockWeights:
    width, hidden, rotary = trunk.width, trunk.hidden, trunk.kind == "rotary"
    query, key, value = (_apart if rotary else _packed)(tensors, f"{name}.attn", width)
    inner_norm = gate = None
    expand = "fc1"
    if rotary:
        inner_norm, expand = norm(tensors, f"{name}.attn.norm", width, _EPSILON), "fc1_x"
        gate = GateWeights(
            linear(tensors, f"{name}.mlp.fc1_g", hidden, width),
            norm(tensors, f"{name}.mlp.norm", hidden, _EPSILON),
        )
    return EvaBlockWeights(
        heads=trunk.heads,
        activation="silu" if rotary else "gelu",
        attention_norm=norm(tensors, f"{name}.norm1", width, _EPSILON),
        query=query,
        key=key,
        value=value,
        out=linear(tensors, f"{name}.attn.proj", width, width),
        mlp_norm=norm(tensors, f"{name}.norm2", width, _EPSILON),
        expand=linear(tensors, f"{name}.mlp.{expand}", hidden, width),
        contract=linear(tensors, f"{name}.mlp.fc2", width, hidden),
        inner_norm=inner_norm,
        gate=gate,
        norms_after=trunk.kind == "post",
    )


def _apart(tensors: TensorStore, name: str, width: int) -> tuple[LinearWeights, ...]:
    """Query, key and value, each by itself; keys have no bias."""
    key = tensors.get(f"{name}.k_proj.weight", (width, width))
    return (
        linear(tensors, f"{name}.q_proj", width, width),
        LinearWeights(key, _no_bias(width)),
        linear(tensors, f"{name}.v_proj", width, width),
    )


def _packed(tensors: TensorStore, name: str, width: int) -> tuple[LinearWeights, ...]:
    """Likewise, their weights in one."""
    together = tensors.get(f"{name}.qkv.weight", (3 * width, width))
    query, key, value = (together.rows(part * width, (part + 1) * width) for part in range(3))
    return (
        LinearWeights(query, tensors.get(f"{name}.q_bias", (width,))),
        LinearWeights(key, _no_bias(width)),
        LinearWeights(value, tensors.get(f"{name}.v_bias", (width,))),
    )


def _no_bias(width: int) -> Tensor:
    return Tensor((width,), lambda: np.zeros(width))

"""timm's ConvNeXts in OpenCLIP's folders: their sizes and tensor names."""

from dataclasses import dataclass

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import TensorStore
from ..towers.convolutional_weights import (
    ConvNeXtBlockWeights,
    ConvNeXtStageWeights,
    ConvNeXtWeights,
)
from ..towers.weights import MlpWeights
from .named import convolution, linear, norm
from .open_clip_config import OpenClipConfig


@dataclass(frozen=True)
class Trunk:
    """Blocks and width of each stage, and the normalisations' epsilon."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    epsilon: float = 1e-6


# timm 1.0, convnext.py.
TRUNKS = {
    "convnext_tiny": Trunk((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": Trunk((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": Trunk((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": Trunk((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xlarge": Trunk((3, 3, 27, 3), (256, 512, 1024, 2048)),
    "convnext_xxlarge": Trunk((3, 4, 30, 3), (384, 768, 1536, 3072), 1e-5),
}
_PATCH, _JOINED, _DEPTHWISE, _MLP_RATIO = 4, 2, 7, 4


def read(tensors: TensorStore, config: OpenClipConfig) -> ConvNeXtWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Pooled or projected in another way, of an image size that its strides do
            not divide, or its tensors are missing or do not fit.
    """
    trunk, size = TRUNKS[config.vision["timm_model_name"]], config.image_size
    pool, proj = config.vision["timm_pool"], config.vision["timm_proj"]
    if pool not in ("", "avg") or proj not in ("linear", "mlp"):
        raise CheckpointError(
            f"{config.where} has a ConvNeXt with timm_pool {short(pool)} and timm_proj "
            f"{short(proj)}; we author '' or 'avg', and 'linear' or 'mlp'"
        )
    stride = _PATCH * _JOINED ** (len(trunk.widths) - 1)
    if size % stride:
        raise CheckpointError(
            f"{config.where} has a ConvNeXt on images of {size}; we author sizes that {stride} "
            "divides"
        )
    width, out = trunk.widths[-1], config.embedding_dim
    hidden, last = None, "visual.head.proj"
    if proj == "mlp":
        hidden, last = linear(tensors, "visual.head.mlp.fc1", 2 * out, width), "visual.head.mlp.fc2"
    bias = f"{last}.bias"
    name = "visual.trunk"
    return ConvNeXtWeights(
        image_size=size,
        patch=convolution(tensors, f"{name}.stem.0", (trunk.widths[0], 3, _PATCH, _PATCH)),
        patch_norm=norm(tensors, f"{name}.stem.1", trunk.widths[0], trunk.epsilon),
        stages=tuple(_stage(tensors, trunk, index) for index in range(len(trunk.widths))),
        norm=norm(tensors, f"{name}.head.norm", width, trunk.epsilon),
        hidden=hidden,
        projection=tensors.get(f"{last}.weight", (out, 2 * out if hidden else width)),
        projection_bias=tensors.get(bias, (out,)) if bias in tensors else None,
    )


def _stage(tensors: TensorStore, trunk: Trunk, index: int) -> ConvNeXtStageWeights:
    name, width = f"visual.trunk.stages.{index}", trunk.widths[index]
    before = join = None
    if index:
        into = trunk.widths[index - 1]
        before = norm(tensors, f"{name}.downsample.0", into, trunk.epsilon)
        join = convolution(tensors, f"{name}.downsample.1", (width, into, _JOINED, _JOINED))
    return ConvNeXtStageWeights(
        norm=before,
        join=join,
        blocks=tuple(
            _block(tensors, f"{name}.blocks.{number}", width, trunk.epsilon)
            for number in range(trunk.blocks[index])
        ),
    )


def _block(tensors: TensorStore, name: str, width: int, epsilon: float) -> ConvNeXtBlockWeights:
    wide = _MLP_RATIO * width
    return ConvNeXtBlockWeights(
        depthwise=convolution(tensors, f"{name}.conv_dw", (width, 1, _DEPTHWISE, _DEPTHWISE)),
        norm=norm(tensors, f"{name}.norm", width, epsilon),
        mlp=MlpWeights(
            activation="gelu",
            expand=linear(tensors, f"{name}.mlp.fc1", wide, width),
            contract=linear(tensors, f"{name}.mlp.fc2", width, wide),
        ),
        scale=tensors.get(f"{name}.gamma", (width,)),
    )

"""MobileCLIP's convolutional vision towers in OpenCLIP's folders, which are timm's FastViTs."""

from dataclasses import dataclass

import numpy as np

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import Tensor, TensorStore
from ..towers.convolutional_weights import (
    BatchNormWeights,
    BranchedWeights,
    ConvMlpWeights,
    FastViTJoinWeights,
    FastViTStageWeights,
    FastViTWeights,
    PlacesAttentionWeights,
    RepMixerWeights,
    SqueezeWeights,
)
from ..towers.weights import ConvolutionWeights, LinearWeights, MlpWeights
from .named import BATCH_EPSILON, convolution, linear, norm, normed
from .open_clip_config import OpenClipConfig


@dataclass(frozen=True)
class Trunk:
    """A FastViT.

    Attributes:
        blocks, widths: Of each stage; all but the first halve the places.
        attending: How many stages, the last ones, attend to all places.
        newer: As MobileCLIP 2's S3 and S4 are: layer normalisation before attention, no squeeze
            where places are joined, no branch of single places in the stem.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    mlp_ratio: int
    attending: int
    newer: bool


# timm 1.0, fastvit.py.
TRUNKS = {
    "fastvit_mci0": Trunk((2, 6, 10, 2), (64, 128, 256, 512), 3, 1, False),
    "fastvit_mci1": Trunk((4, 12, 20, 4), (64, 128, 256, 512), 3, 1, False),
    "fastvit_mci2": Trunk((4, 12, 24, 4), (80, 160, 320, 640), 3, 1, False),
    "fastvit_mci3": Trunk((2, 12, 24, 4, 2), (96, 192, 384, 768, 1536), 4, 2, True),
    "fastvit_mci4": Trunk((2, 12, 24, 4, 4), (128, 256, 512, 1024, 2048), 4, 2, True),
}
_HEAD_WIDTH, _NORM_EPSILON = 32, 1e-5
# The last convolution's channels per one of its input; what its squeeze, and one where places are
# joined, reduces channels by. Squeezes are from the third stage on.
_LAST_RATIO, _LAST_SQUEEZE, _SQUEEZE, _FIRST_SQUEEZED = 2, 16, 4, 2


def read(tensors: TensorStore, config: OpenClipConfig) -> FastViTWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Pooled or projected in another way, of an image size that its strides do
            not divide, without its branches; or its tensors are missing or do not fit.
    """
    trunk, size = TRUNKS[config.vision["timm_model_name"]], config.image_size
    pool, proj = config.vision["timm_pool"], config.vision["timm_proj"]
    if pool != "avg" or proj is not None:
        raise CheckpointError(
            f"{config.where} has a FastViT with timm_pool {short(pool)} and timm_proj "
            f"{short(proj)}; we author 'avg', and null"
        )
    stride = 2 ** (len(trunk.widths) + 1)
    if size % stride:
        raise CheckpointError(
            f"{config.where} has a FastViT on images of {size}; we author sizes that {stride} "
            "divides"
        )
    name = "visual.trunk"
    if f"{name}.stem.0.reparam_conv.weight" in tensors:
        raise CheckpointError(
            f"the branches of {tensors.source} are added up already (reparam_conv); give the "
            "checkpoint as it was published, which is added up in float64 here"
        )
    first, last = trunk.widths[0], trunk.widths[-1]
    wide, single = _LAST_RATIO * last, not trunk.newer
    return FastViTWeights(
        image_size=size,
        stem=(
            _branched(tensors, f"{name}.stem.0", (first, 3, 3, 3), single),
            _branched(tensors, f"{name}.stem.1", (first, 1, 3, 3), single),
            _branched(tensors, f"{name}.stem.2", (first, first, 1, 1), identity=True),
        ),
        stages=tuple(_stage(tensors, trunk, index) for index in range(len(trunk.widths))),
        last=_branched(tensors, f"{name}.final_conv", (wide, 1, 3, 3), single=True),
        squeeze=_squeeze(tensors, f"{name}.final_conv.se", wide, wide // _LAST_SQUEEZE),
        projection=linear(tensors, f"{name}.head.fc", config.embedding_dim, wide),
    )


def _stage(tensors: TensorStore, trunk: Trunk, index: int) -> FastViTStageWeights:
    name, width = f"visual.trunk.stages.{index}", trunk.widths[index]
    attending = index >= len(trunk.widths) - trunk.attending
    blocks = []
    for block in (f"{name}.blocks.{number}" for number in range(trunk.blocks[index])):
        mixer = _attention(tensors, block, width, trunk) if attending else None
        scale = "layer_scale_2" if attending else "layer_scale"
        blocks.append(
            (
                mixer or _mixer(tensors, f"{block}.token_mixer", width),
                ConvMlpWeights(
                    convolution=_normed(tensors, f"{block}.mlp.conv", (width, 1, 7, 7)),
                    mlp=MlpWeights(
                        "gelu",
                        convolution(
                            tensors, f"{block}.mlp.fc1", (trunk.mlp_ratio * width, width, 1, 1)
                        ),
                        convolution(
                            tensors, f"{block}.mlp.fc2", (width, trunk.mlp_ratio * width, 1, 1)
                        ),
                    ),
                    scale=_scale(tensors, f"{block}.{scale}", width),
                ),
            )
        )
    positions = None
    if attending:
        positions = convolution(tensors, f"{name}.pos_emb.pos_enc", (width, 1, 7, 7))
    return FastViTStageWeights(
        width=width,
        join=_join(tensors, f"{name}.downsample.proj", trunk, index) if index else None,
        positions=positions,
        blocks=tuple(blocks),
    )


def _join(tensors: TensorStore, name: str, trunk: Trunk, index: int) -> FastViTJoinWeights:
    width, squeeze = trunk.widths[index], None
    if not trunk.newer and index >= _FIRST_SQUEEZED:
        squeeze = _squeeze(tensors, f"{name}.0.se", width, width // _SQUEEZE)
    return FastViTJoinWeights(
        spatial=BranchedWeights(
            (
                _normed(tensors, f"{name}.0.large_conv", (width, 1, 7, 7)),
                _normed(tensors, f"{name}.0.small_conv", (width, 1, 3, 3)),
            ),
            None,
        ),
        squeeze=squeeze,
        pointwise=_branched(tensors, f"{name}.1", (width, width, 1, 1), identity=True),
    )


def _mixer(tensors: TensorStore, name: str, width: int) -> RepMixerWeights:
    return RepMixerWeights(
        mixer=_branched(tensors, f"{name}.mixer", (width, 1, 3, 3), single=True, identity=True),
        norm=_batch_norm(tensors, f"{name}.norm.identity", width),
        scale=_scale(tensors, f"{name}.layer_scale", width),
    )


def _attention(tensors: TensorStore, name: str, width: int, trunk: Trunk) -> PlacesAttentionWeights:
    packed = tensors.get(f"{name}.token_mixer.qkv.weight", (3 * width, width))
    nothing = Tensor((width,), lambda: np.zeros(width))
    query, key, value = (
        LinearWeights(packed.rows(part * width, (part + 1) * width), nothing) for part in range(3)
    )
    before = f"{name}.norm"
    return PlacesAttentionWeights(
        heads=width // _HEAD_WIDTH,
        norm=norm(tensors, before, width, _NORM_EPSILON)
        if trunk.newer
        else _batch_norm(tensors, before, width),
        query=query,
        key=key,
        value=value,
        out=linear(tensors, f"{name}.token_mixer.proj", width, width),
        scale=_scale(tensors, f"{name}.layer_scale_1", width),
    )


def _branched(
    tensors: TensorStore,
    name: str,
    shape: tuple[int, int, int, int],
    single: bool = False,
    identity: bool = False,
) -> BranchedWeights:
    """A MobileOne block: a convolution, perhaps one of single places, and perhaps its input."""
    branches = [_normed(tensors, f"{name}.conv_kxk.0", shape)]
    if single:
        branches.append(_normed(tensors, f"{name}.conv_scale", (*shape[:2], 1, 1)))
    kept = _batch_norm(tensors, f"{name}.identity", shape[0]) if identity else None
    return BranchedWeights(tuple(branches), kept)


def _normed(
    tensors: TensorStore, name: str, shape: tuple[int, int, int, int]
) -> ConvolutionWeights:
    return normed(tensors, f"{name}.conv", f"{name}.bn", shape)


def _batch_norm(tensors: TensorStore, name: str, width: int) -> BatchNormWeights:
    names = ("weight", "bias", "running_mean", "running_var")
    scale, bias, mean, variance = (tensors.get(f"{name}.{part}", (width,)) for part in names)
    return BatchNormWeights(scale, bias, mean, variance, BATCH_EPSILON)


def _squeeze(tensors: TensorStore, name: str, width: int, reduced: int) -> SqueezeWeights:
    return SqueezeWeights(
        convolution(tensors, f"{name}.fc1", (reduced, width, 1, 1)),
        convolution(tensors, f"{name}.fc2", (width, reduced, 1, 1)),
    )


def _scale(tensors: TensorStore, name: str, width: int) -> Tensor:
    return tensors.get(f"{name}.gamma", (width, 1, 1)).flattened()

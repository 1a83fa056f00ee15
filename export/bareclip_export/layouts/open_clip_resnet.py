"""open_clip's ModifiedResNet: its tensor names (modified_resnet.py)."""

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import TensorStore
from ..towers.weights import BottleneckWeights, ModifiedResNetWeights
from .named import linear, normed
from .open_clip_config import OpenClipConfig

# Width of what a block gives, in widths of what it computes with.
_EXPANSION = 4


def read(tensors: TensorStore, config: OpenClipConfig) -> ModifiedResNetWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Its tensors are missing or do not fit the config.
    """
    layers, width = config.vision["layers"], config.vision["width"]
    size = config.image_size
    if len(layers) != 4 or not all(type(n) is int and 0 < n < 1000 for n in layers) or size % 32:
        raise CheckpointError(
            f"{config.where} has a ResNet of layers {short(layers)} on images of {size}; we "
            "author four "
            "layers of one block at least, on sizes that 32 divides"
        )
    half, wide, heads = width // 2, width * 32, width * 32 // config.vision["head_width"]
    if heads < 1 or wide % heads:
        raise CheckpointError(f"{config.where} has {heads} heads in a width of {wide}")
    blocks: list[BottleneckWeights] = []
    into = width
    for number, count in enumerate(layers, start=1):
        planes = width * 2 ** (number - 1)
        for index in range(count):
            stride = 2 if number > 1 and index == 0 else 1
            name = f"visual.layer{number}.{index}"
            blocks.append(_bottleneck(tensors, name, into, planes, stride))
            into = planes * _EXPANSION
    return ModifiedResNetWeights(
        image_size=size,
        stem=(
            normed(tensors, "visual.conv1", "visual.bn1", (half, 3, 3, 3)),
            normed(tensors, "visual.conv2", "visual.bn2", (half, half, 3, 3)),
            normed(tensors, "visual.conv3", "visual.bn3", (width, half, 3, 3)),
        ),
        blocks=tuple(blocks),
        heads=heads,
        positions=tensors.get(
            "visual.attnpool.positional_embedding", (1 + (size // 32) ** 2, wide)
        ),
        query=linear(tensors, "visual.attnpool.q_proj", wide, wide),
        key=linear(tensors, "visual.attnpool.k_proj", wide, wide),
        value=linear(tensors, "visual.attnpool.v_proj", wide, wide),
        out=linear(tensors, "visual.attnpool.c_proj", config.embedding_dim, wide),
    )


def _bottleneck(
    tensors: TensorStore, name: str, into: int, planes: int, stride: int
) -> BottleneckWeights:
    out = planes * _EXPANSION
    shortcut = None
    if stride > 1 or into != out:
        shortcut = normed(
            tensors, f"{name}.downsample.0", f"{name}.downsample.1", (out, into, 1, 1)
        )
    return BottleneckWeights(
        stride=stride,
        convolutions=(
            normed(tensors, f"{name}.conv1", f"{name}.bn1", (planes, into, 1, 1)),
            normed(tensors, f"{name}.conv2", f"{name}.bn2", (planes, planes, 3, 3)),
            normed(tensors, f"{name}.conv3", f"{name}.bn3", (out, planes, 1, 1)),
        ),
        shortcut=shortcut,
    )

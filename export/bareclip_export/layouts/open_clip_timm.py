"""timm's towers in OpenCLIP's folders: which family a name is of."""

from collections.abc import Callable

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import TensorStore
from . import open_clip_convnext, open_clip_siglip, open_clip_vit
from .model import VisionWeights
from .open_clip_config import OpenClipConfig


def read(tensors: TensorStore, config: OpenClipConfig) -> VisionWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Of a family, or of a variant, that we do not author; or its tensors are
            missing or do not fit.
    """
    return _reader(config)(tensors, config)


def _reader(config: OpenClipConfig) -> Callable[[TensorStore, OpenClipConfig], VisionWeights]:
    name = str(config.vision["timm_model_name"])
    if name in open_clip_convnext.TRUNKS:
        return open_clip_convnext.read
    if name in open_clip_vit.TRUNKS:
        return open_clip_vit.read
    if "_siglip" in name:
        return open_clip_siglip.read
    known = [*open_clip_convnext.TRUNKS, *open_clip_vit.TRUNKS, *open_clip_siglip.TRUNKS]
    raise CheckpointError(
        f"{config.where} has the timm model {short(name)}; we author {', '.join(known)}"
    )

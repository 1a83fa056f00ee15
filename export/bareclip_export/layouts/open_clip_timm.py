"""timm's towers in OpenCLIP's folders: which family a name is of."""

from collections.abc import Callable, Mapping

from bareclip.errors import short

from ..errors import CheckpointError
from ..tensors import TensorStore
from . import (
    open_clip_convnext,
    open_clip_eva,
    open_clip_mobileclip,
    open_clip_mobileclip_vit,
    open_clip_pe,
    open_clip_siglip,
    open_clip_vit,
)
from .model import VisionWeights
from .open_clip_config import OpenClipConfig

Reader = Callable[[TensorStore, OpenClipConfig], VisionWeights]

# By timm's names; SigLIP's are read by the part of theirs before the image size.
_READERS: tuple[tuple[Mapping[str, object], Reader], ...] = (
    (open_clip_convnext.TRUNKS, open_clip_convnext.read),
    (open_clip_mobileclip.TRUNKS, open_clip_mobileclip.read),
    (open_clip_mobileclip_vit.STEMMED, open_clip_mobileclip_vit.read),
    (open_clip_mobileclip_vit.PLAIN, open_clip_mobileclip_vit.read),
    (open_clip_eva.TRUNKS, open_clip_eva.read),
    (open_clip_pe.TRUNKS, open_clip_pe.read),
    (open_clip_vit.TRUNKS, open_clip_vit.read),
)


def read(tensors: TensorStore, config: OpenClipConfig) -> VisionWeights:
    """Reads the vision tower.

    Raises:
        CheckpointError: Of a family, or of a variant, that we do not author; or its tensors are
            missing or do not fit.
    """
    return _reader(config)(tensors, config)


def _reader(config: OpenClipConfig) -> Reader:
    name = str(config.vision["timm_model_name"])
    for trunks, read_trunk in _READERS:
        if name in trunks:
            return read_trunk
    if "_siglip" in name:
        return open_clip_siglip.read
    known = [trunk for trunks, _ in _READERS for trunk in trunks]
    raise CheckpointError(
        f"{config.where} has the timm model {short(name)}; we author "
        f"{', '.join([*known, *open_clip_siglip.TRUNKS])}"
    )

"""Checkpoint layouts: a file per layout, each naming its tensors and reading its config."""

from collections.abc import Callable

from bareclip.errors import short

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..sentence_transformers import text_modules
from . import (
    chinese_clip,
    huggingface_clip,
    huggingface_metaclip_2,
    huggingface_siglip,
    m_clip,
    open_clip,
    sentence_bert,
)
from .huggingface_config import architectures
from .model import Model

_AUTHORED: dict[str, Callable[[Checkpoint, str], Model]] = {
    "CLIPModel": huggingface_clip.read,
    f"CLIP{huggingface_clip.VISION}": huggingface_clip.read,
    f"CLIP{huggingface_clip.TEXT}": huggingface_clip.read,
    "MetaClip2Model": huggingface_metaclip_2.read,
    f"MetaClip2{huggingface_clip.VISION}": huggingface_metaclip_2.read,
    f"MetaClip2{huggingface_clip.TEXT}": huggingface_metaclip_2.read,
    "SiglipModel": huggingface_siglip.read,
    "ChineseCLIPModel": chinese_clip.read,
    "MultilingualCLIP": m_clip.read,
}


def read_model(checkpoint: Checkpoint) -> Model:
    """Reads a checkpoint of an architecture we author.

    Raises:
        CheckpointError: Of another architecture, or incomplete.
    """
    if checkpoint.layout == "open_clip":
        return open_clip.read(checkpoint)
    if (modules := text_modules(checkpoint.folder)) is not None:
        return sentence_bert.read(checkpoint, *modules)
    named = architectures(checkpoint)
    for name in named:
        if name in _AUTHORED:
            return _AUTHORED[name](checkpoint, name)
    if not named:
        raise CheckpointError(
            f"{checkpoint.config_path} names neither architectures nor a model_type, so what its "
            'weights are is unknown: add "architectures": ["CLIPModel"], or whichever of '
            f"{', '.join(_AUTHORED)} it is"
        )
    raise CheckpointError(
        f"{checkpoint.name} has the architecture {short(', '.join(named))[1:-1]}; we author "
        f"{', '.join(_AUTHORED)} and OpenCLIP's folders"
    )

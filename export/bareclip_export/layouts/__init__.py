"""Checkpoint layouts: a file per layout, each naming its tensors and reading its config."""

from collections.abc import Callable

from bareclip.errors import short

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from . import huggingface_clip, huggingface_siglip, open_clip
from .model import Model

_AUTHORED: dict[str, Callable[[Checkpoint, str], Model]] = {
    "CLIPModel": huggingface_clip.read,
    huggingface_clip.VISION: huggingface_clip.read,
    huggingface_clip.TEXT: huggingface_clip.read,
    "SiglipModel": huggingface_siglip.read,
}


def read_model(checkpoint: Checkpoint) -> Model:
    """Reads a checkpoint of an architecture we author.

    Raises:
        CheckpointError: Of another architecture, or incomplete.
    """
    if checkpoint.layout == "open_clip":
        return open_clip.read(checkpoint)
    given = checkpoint.config.get("architectures")
    architectures = [str(name) for name in given] if isinstance(given, list) else []
    for name in architectures:
        if name in _AUTHORED:
            return _AUTHORED[name](checkpoint, name)
    named = ", ".join(architectures) or str(checkpoint.config.get("model_type") or "none")
    raise CheckpointError(
        f"{checkpoint.name} has the architecture {short(named)[1:-1]}; we author "
        f"{', '.join(_AUTHORED)} and OpenCLIP's folders"
    )

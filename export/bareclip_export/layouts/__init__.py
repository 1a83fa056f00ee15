"""Checkpoint layouts: a file a layout, each naming its tensors and reading its config."""

from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from . import huggingface_clip
from .model import Model

_AUTHORED = {"CLIPModel": huggingface_clip.read}


def read_model(checkpoint: Checkpoint) -> Model:
    """Reads a checkpoint of an architecture we author.

    Raises:
        CheckpointError: Of another architecture, or incomplete.
    """
    architectures = checkpoint.config.get("architectures") or []
    for name in architectures:
        if name in _AUTHORED:
            return _AUTHORED[name](checkpoint)
    named = ", ".join(map(str, architectures)) or checkpoint.config.get("model_type") or "none"
    raise CheckpointError(
        f"{checkpoint.name} has the architecture {named}; we author "
        f"{', '.join(_AUTHORED)} with a vision transformer"
    )

"""Hugging Face's MetaClip2Model: a CLIPModel's tensors and config, XLM-RoBERTa's tokenizer.

Its end token has the id 2, which in a CLIPModel's config means another token.
"""

from ..checkpoint import Checkpoint
from ..text_recipe import tokenizer_class
from . import huggingface_clip
from .model import Model


def read(checkpoint: Checkpoint, architecture: str) -> Model:
    """Reads a MetaClip2Model, or one of its towers with a projection.

    Raises:
        CheckpointError: As ``huggingface_clip.read``, or its tokenizer is of an unknown class.
    """
    tokenizer_class(checkpoint)
    return huggingface_clip.read(checkpoint, architecture, legacy_end=False)

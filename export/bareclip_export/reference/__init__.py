"""Forward passes in float64 NumPy, straight from a checkpoint's files; exports are held to them.

Nothing is shared with the towers or the layouts: no folding, no packing, no pooled last block, and
names, configurations, their defaults and the tokenizer's files are read here once more. So a
mistake there is not repeated here. Slow, and meant to be read beside transformers' and open_clip's
code, which tests hold them to.
"""

from ..checkpoint import Checkpoint
from . import huggingface, open_clip
from .numerics import Forward
from .tokens import Tokens, read_tokens

__all__ = ["Forward", "Tokens", "read_forwards", "read_tokens"]


def read_forwards(checkpoint: Checkpoint) -> dict[str, Forward]:
    """A checkpoint's own answers, of one that a layout has read: tower -> forward."""
    layout = open_clip if checkpoint.layout == "open_clip" else huggingface
    return layout.forwards(checkpoint)

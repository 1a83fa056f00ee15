"""ImageEncoder and TextEncoder: items in, unit vectors out, in order and in bounded memory.

An encoder owns the recipe or the tokenizer, the tower, and how work is cut into batches; all
that embeds stands on these two. An encoder is made at once and loads its tower when it is first
asked for a vector. Both may be used by many threads at once.
"""

from .encoder import Options, preload
from .image_encoder import IMAGE_BATCH, ImageEncoder
from .text_encoder import TEXT_BATCH, TextEncoder

__all__ = ["IMAGE_BATCH", "TEXT_BATCH", "ImageEncoder", "Options", "TextEncoder", "preload"]

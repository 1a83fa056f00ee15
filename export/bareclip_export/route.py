"""What a route of conversion hands to the export: constants, writers and a reference."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from numpy.typing import NDArray

from bareclip.bundle import ImageRecipe, Scoring, TextRecipe

# The oldest ONNX Runtime that the runtime works with, and float32 graphs need no other.
OLDEST = "1.18"


@dataclass(frozen=True)
class Text:
    """What tokenizes a text for the text tower.

    Attributes:
        vocabulary: Rows of the token table.
    """

    tokenizer: tokenizers.Tokenizer
    recipe: TextRecipe
    vocabulary: int


@dataclass(frozen=True)
class Conversion:
    """A checkpoint, ready to be written.

    Attributes:
        exporter: What made the graphs, for the bundle's ``source``.
        image, text: None where it has no such tower.
        write: tower ("vision", "text") -> writes its graph to a path.
        reference: tower -> (a batch of its input) -> (N, D) unit rows.
        tokens: A text -> its ids by the checkpoint's own files, uncut; None where nothing but the
            tokenizer itself can say.
        onnxruntime: tower -> the oldest version that runs it, where that is not ``OLDEST``.
        static_batch: How many inputs its graphs take, always; None for any number.
    """

    architecture: str
    exporter: str
    embedding_dim: int
    scoring: Scoring
    image: ImageRecipe | None
    text: Text | None
    write: dict[str, Callable[[Path], None]]
    reference: dict[str, Callable[[NDArray[Any]], NDArray[Any]]]
    reference_name: str
    tokens: Callable[[str], list[int]] | None = None
    onnxruntime: dict[str, str] = field(default_factory=dict)
    static_batch: int | None = None

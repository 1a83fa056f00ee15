"""What a route of conversion hands to the export: constants, writers and a reference."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bareclip.bundle import ImageRecipe, Scoring


@dataclass(frozen=True)
class Conversion:
    """A checkpoint, ready to be written.

    Attributes:
        vocabulary: Rows of the token table.
        end_id: Of the token that is pooled; None where it is the highest id of a text.
        exporter: What made the graphs, for the bundle's ``source``.
        write: tower ("vision", "text") -> writes its graph to a path.
        reference: tower -> (a batch of its input) -> (N, D) unit rows.
    """

    architecture: str
    exporter: str
    embedding_dim: int
    context_length: int
    vocabulary: int
    end_id: int | None
    scoring: Scoring
    image: ImageRecipe
    write: dict[str, Callable[[Path], None]]
    reference: dict[str, Callable[[NDArray[Any]], NDArray[Any]]]
    reference_name: str

"""What a model's questions are answered with, besides plain arrays."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


@dataclass(frozen=True)
class Failure:
    """An image that could not be embedded.

    Attributes:
        index: Its place among the images given.
        name: Its path, or what kind of thing it was.
        reason: One line.
    """

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class PartialEmbeddings:
    """What ``embed_images(..., on_error="skip")`` returns.

    Attributes:
        vectors: (K, D) float32, unit rows: the images that worked, in order.
        kept: K places among the images given; row i belongs to image ``kept[i]``.
        failures: The others.
    """

    vectors: NDArray[np.float32]
    kept: list[int]
    failures: list[Failure]


@dataclass(frozen=True)
class Hit(Generic[Item]):
    """Something found, and its cosine similarity to what was looked for."""

    item: Item
    similarity: float


@dataclass(frozen=True)
class IndexHit(Hit[str]):
    """Something found in a photo index.

    ``item`` is a photo's path, or the id that a vector was added under; a path that is not
    UTF-8 has surrogates, as ``os.fsdecode`` gives them.

    Attributes:
        metadata: What was added with it; None for a photo.
    """

    metadata: dict[str, Any] | None

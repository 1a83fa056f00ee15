"""What questions are answered with, besides plain arrays."""

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Failure:
    """An image or a text that could not be embedded.

    Attributes:
        index: Its place among those given.
        name: An image's path, or what kind of thing it was; the beginning of a text.
        reason: One line.
    """

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class PartialEmbeddings:
    """What ``embed_images(..., on_error="skip")`` returns.

    Attributes:
        vectors: (K, D) unit rows: what worked, in order.
        kept: K places among what was given; row i belongs to item ``kept[i]``.
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
        metadata: What was added with it; of a photo, ``{"taken": "2024-06-15T18:30:00"}`` where
            its file says when that was, else None.
        sha256: Of a photo's file, in hexadecimal, when it was indexed; None of what was added.
            An index from elsewhere can name any file, and not know what is in it.
    """

    metadata: dict[str, Any] | None
    sha256: str | None = None


@dataclass(frozen=True)
class Prediction:
    """A label and how probable the model finds it, from 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True)
class Tagged:
    """An item of a photo index, as ``IndexHit`` names it, and its tags, the most probable first.

    Attributes:
        sha256: Of the photo's file; None for what was added.
    """

    item: str
    tags: list[Prediction]
    sha256: str | None = None


@dataclass(frozen=True)
class TeachingReport:
    """What became of teaching a classifier; cross-validated: of examples that were held out.

    Attributes:
        method: ``"linear"`` or ``"cache"``; ``"zero-shot"`` where examples did not help, so that
            the labels' texts answer.
        examples: How many.
        zero_shot_accuracy: Of the labels' texts, from 0 to 1.
        taught_accuracy: Of the method that was asked for, also where it was not kept.
        error_before: The calibration error of what is kept, as it came out.
        error_after: The same with the temperature that is kept; the same number where none is,
            since it would not have been less.
    """

    method: Literal["linear", "cache", "zero-shot"]
    examples: int
    zero_shot_accuracy: float
    taught_accuracy: float
    error_before: float
    error_after: float

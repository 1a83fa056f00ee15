"""Scoring, on arrays only: no model, no files, nothing but NumPy.

Follows Radford et al. 2021 (CLIP, arXiv 2103.00020), figure 3 and section 3.1.2.
Vectors are rows; N and M count rows, D is the embedding width.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import VectorError

Floats = NDArray[np.floating[Any]]

# How far from 1 the length of a vector may be that float32 arithmetic made a unit of.
UNIT_TOLERANCE = 1e-5


def normalize(vectors: ArrayLike) -> Floats:
    """Scales each row to unit Euclidean length.

    Args:
        vectors: (N, D) or (D,), any real type. Integers and float16 become float32.

    Returns:
        The same shape, float32 or float64. A zero row stays zero.
    """
    rows = _floats(vectors)
    # The largest component goes first so that squares neither overflow nor vanish.
    largest = np.abs(rows).max(axis=-1, keepdims=True, initial=0.0)
    rows = rows / np.where(largest == 0, 1, largest)
    length = np.sqrt(np.einsum("...d,...d->...", rows, rows))[..., None]
    return rows / np.where(length == 0, 1, length)


def checked_rows(vectors: ArrayLike, what: str, width: int | None = None) -> Floats:
    """Vectors as rows, or an error that says what is wrong with them.

    Args:
        vectors: (N, D), any real type. Integers and float16 become float32.
        what: What messages call them.
        width: D; None for any.

    Raises:
        VectorError: One vector, rows of another width, no numbers, NaN or infinity.
    """
    try:
        rows = _floats(vectors)
    except (TypeError, ValueError) as error:
        raise VectorError(f"{what} are no numbers ({error}); give (N, {width or 'D'})") from error
    if rows.ndim == 1:
        raise VectorError(
            f"{what} are one vector of {len(rows)} numbers where rows are wanted; "
            "give a row of one: vector[None]"
        )
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise VectorError(
            f"{what} are {rows.shape}; give (N, {width or 'D'}), of the same model as the others"
        )
    if not np.isfinite(rows).all():
        first = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise VectorError(f"{what} hold NaN or infinity, first in row {first}; leave it out")
    return rows


def unit_rows(vectors: ArrayLike, what: str, width: int) -> Floats:
    """Vectors as rows of length 1; those that are so already keep their bits.

    Args:
        vectors, what, width: As for ``checked_rows``.

    Raises:
        VectorError: As ``checked_rows``; or a vector is zero.
    """
    rows = checked_rows(vectors, what, width)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    is_unit = np.abs(lengths - 1) < UNIT_TOLERANCE
    if is_unit.all():
        return rows
    if not lengths.all():
        first = int(np.flatnonzero(lengths == 0)[0])
        raise VectorError(f"{what} hold zero, in row {first}: it has no direction to compare")
    return np.where(is_unit[:, None], rows, normalize(rows))


def cosine(left: ArrayLike, right: ArrayLike) -> Floats:
    """Cosine similarity of every row of ``left`` with every row of ``right``.

    Args:
        left: (N, D) or (D,), of any length.
        right: (M, D) or (D,).

    Returns:
        (N, M), within [-1, 1].

    Raises:
        VectorError: The widths differ.
    """
    a, b = np.atleast_2d(normalize(left)), np.atleast_2d(normalize(right))
    if a.shape[1] != b.shape[1]:
        raise VectorError(
            f"vectors of width {a.shape[1]} and {b.shape[1]} cannot be compared; "
            "embed both with the same model"
        )
    return np.clip(a @ b.T, -1.0, 1.0)


def softmax(logits: ArrayLike, axis: int = -1) -> Floats:
    """Exponentials that sum to one along ``axis``; safe for logits of any size.

    Args:
        logits: Any shape.
        axis: Along which the result sums to one.

    Returns:
        The shape of ``logits``.
    """
    values = _floats(logits)
    # Subtracting the maximum keeps exp() from overflowing at logits above 88.
    shifted = np.exp(values - values.max(axis=axis, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def sigmoid(logits: ArrayLike) -> Floats:
    """Logistic function, element by element; safe for logits of any size.

    Args:
        logits: Any shape.

    Returns:
        The shape of ``logits``, within [0, 1].
    """
    values = _floats(logits)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1, small) / (1 + small)


def top_k(scores: ArrayLike, k: int) -> NDArray[np.int64]:
    """Positions of the ``k`` highest scores, best first, ties by position.

    Args:
        scores: (M,) without NaN.
        k: How many; more than M gives all M.

    Returns:
        (min(k, M),) int64.

    Raises:
        VectorError: ``k`` is negative, or a score is NaN.
    """
    values = np.asarray(scores)
    if k < 0:
        raise VectorError(f"k is {k}; it must be 0 or more")
    if np.isnan(values).any():
        raise VectorError("scores contain NaN; check the vectors they came from")
    k = min(k, len(values))
    if k == 0:
        return np.empty(0, np.int64)
    threshold = np.partition(values, len(values) - k)[len(values) - k]
    # argpartition alone would pick freely among scores that tie with the last one in.
    candidates = np.flatnonzero(values >= threshold)
    return candidates[np.argsort(-values[candidates], kind="stable")][:k].astype(np.int64)


def ranks(scores: ArrayLike, true: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row's number of columns ahead of its true one; ties go to the earlier column.

    Args:
        scores: (N, M).
        true: (N,) columns.

    Returns:
        (N,), 0 for the first place.
    """
    rows = np.asarray(scores)
    own = np.take_along_axis(rows, true[:, None], axis=1)
    earlier = np.arange(rows.shape[1]) < true[:, None]
    ahead = (rows > own) | ((rows == own) & earlier)
    return ahead.sum(axis=1, dtype=np.int64)


def contrastive_loss(images: ArrayLike, texts: ArrayLike, logit_scale: float) -> float:
    """The symmetric contrastive loss CLIP is trained with.

    The mean of two cross-entropies, image to text and text to image, over the
    (N, N) matrix of scaled cosines whose diagonal holds the true pairs
    (Radford et al. 2021, figure 3).

    Args:
        images: (N, D); row i belongs to text i.
        texts: (N, D).
        logit_scale: Logarithm of the inverse temperature, as checkpoints store it:
            logits are ``exp(logit_scale)`` times cosine.

    Returns:
        The loss in nats; ``log(N)`` when all pairs look alike.

    Raises:
        VectorError: The two have different shapes, or no rows.
    """
    if np.shape(images) != np.shape(texts) or np.size(images) == 0:
        raise VectorError(
            f"images {np.shape(images)} and texts {np.shape(texts)} must be the same "
            "non-empty (N, D): one text for each image"
        )
    logits = np.exp(logit_scale) * cosine(images, texts)
    return float((_cross_entropy(logits) + _cross_entropy(logits.T)) / 2)


def _cross_entropy(logits: Floats) -> Any:
    """Mean of -log softmax at the diagonal, by rows."""
    peak = logits.max(axis=1)
    log_sum = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return (log_sum - np.diagonal(logits)).mean()


def _floats(values: ArrayLike) -> Floats:
    array = np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)

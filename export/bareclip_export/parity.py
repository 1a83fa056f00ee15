"""Holds an exported tower to its checkpoint before a bundle is complete.

The export fails above ``TOLERANCE``; the figures travel in the bundle.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bareclip.bundle import Parity
from bareclip.encoders import ImageEncoder, TextEncoder
from bareclip.measure.samples import AWKWARD_TEXTS, drawn_pixels
from bareclip.scoring.vectors import cosine

from .awkward_texts import TEXTS
from .errors import ParityError

# On normalised vectors. float32 towers land near 2e-7; a wrong constant far above.
TOLERANCE = 1e-5
# CLIP's context length, which most text towers have.
_USUAL = 77

# (a batch of a tower's input) -> (N, D) unit rows.
Reference = Callable[[NDArray[Any]], NDArray[Any]]


def check_images(encoder: ImageEncoder, reference: Reference, reference_name: str) -> Parity:
    """Compares a vision tower with a reference, on drawn pictures and noise.

    Args:
        encoder: Of the bundle that was made; it is closed, so that memory never holds the tower
            and what the reference makes of the same weights.
        reference: Takes (N, size, size, 3) uint8.
        reference_name: What the parity record calls it.

    Returns:
        What was measured.

    Raises:
        ParityError: A vector differs by more than ``TOLERANCE``.
    """
    pixels = drawn_pixels(encoder.recipe.size, 4)
    answers = encoder.embed_pixels(pixels, batch_size=2)
    encoder.close()
    return _compared("vision", answers, reference(pixels), reference_name)


def check_tokens(encoder: TextEncoder, tokens: Callable[[str], list[int]]) -> None:
    """Compares a bundle's tokenizer with a second reading of the checkpoint's own files.

    Args:
        encoder: Of the bundle that was made.
        tokens: A text -> its ids, uncut.

    Raises:
        ParityError: A text has other ids.
    """
    recipe = encoder.recipe
    found = encoder.tokenizer.encode(TEXTS, truncate=True)
    for text, ids in zip(TEXTS, found, strict=True):
        wanted = tokens(text)
        if len(wanted) > recipe.context_length:
            wanted = [*wanted[: recipe.context_length - 1], wanted[-1]]
        if recipe.fixed_length:
            ids, wanted = (
                [*row, *[recipe.pad_id] * (recipe.context_length - len(row))]
                for row in (ids, wanted)
            )
        if ids != wanted:
            raise ParityError(
                f"the tokenizer reads text {text!r} as {ids}, the checkpoint's own files as "
                f"{wanted}; nothing was written. Please report this checkpoint"
            )


def check_texts(
    encoder: TextEncoder, vocabulary: int, reference: Reference, reference_name: str
) -> Parity:
    """Compares a text tower with a reference: short texts, long, empty, awkward; random ids.

    Args:
        encoder: Of the bundle that was made; it is closed, as by ``check_images``.
        vocabulary: Rows of the token table.
        reference: Takes (N, T) int64.
        reference_name: What the parity record calls it.

    Returns:
        What was measured.

    Raises:
        ParityError: A vector differs by more than ``TOLERANCE``.
    """
    batches = [ids for _, ids in encoder.batches(AWKWARD_TEXTS)]
    batches += _noise(encoder, vocabulary)
    answers = np.concatenate([encoder.embed_tokens(batch) for batch in batches])
    encoder.close()
    wanted = reference(_joined(batches, encoder.recipe.pad_id))
    return _compared("text", answers, wanted, reference_name)


def _compared(
    tower: str, answers: NDArray[np.float32], wanted: NDArray[Any], reference_name: str
) -> Parity:
    difference = float(np.abs(answers - wanted).max())
    parity = Parity(
        reference=reference_name,
        max_difference=difference,
        min_cosine=float(np.diagonal(cosine(answers.astype(np.float64), wanted)).min()),
        inputs=len(answers),
    )
    if not difference <= TOLERANCE:  # NaN fails too
        raise ParityError(
            f"the {tower} tower differs from {reference_name} by {difference:.1e}, more "
            f"than {TOLERANCE:.0e}, on normalised vectors; nothing was written. "
            "Please report this checkpoint"
        )
    return parity


def _noise(encoder: TextEncoder, vocabulary: int) -> list[NDArray[np.int64]]:
    """Random ids, two texts: with an end in the middle, and of the full context length.

    What the first shows does not depend on its length, so of a context of hundreds of tokens, whose
    float64 forward takes minutes in a large model, it is the first ``_USUAL`` only. The other one
    has every position.
    """
    recipe = encoder.recipe
    length = recipe.context_length
    ids = np.random.default_rng(0).integers(0, vocabulary, (2, length))
    short = length if recipe.fixed_length else min(length, _USUAL)
    ids[0, short // 2] = ids[0, short - 1] = ids[1, -1] = recipe.end_id
    return [ids[:1, :short], ids[1:]]


def _joined(batches: Sequence[NDArray[Any]], pad_id: int) -> NDArray[Any]:
    """All batches as one."""
    width = max(batch.shape[1] for batch in batches)
    rest = [(0, 0)] * (batches[0].ndim - 2)
    return np.concatenate(
        [
            np.pad(b, [(0, 0), (0, width - b.shape[1]), *rest], constant_values=pad_id)
            for b in batches
        ]
    )

"""Holds an exported tower to its checkpoint before a bundle is complete.

The export fails above ``TOLERANCE``; the figures travel in the bundle.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bareclip.bundle import Parity
from bareclip.samples import AWKWARD_TEXTS, drawn_pixels
from bareclip.session import Device, Tower
from bareclip.similarity import cosine
from bareclip.threads import Threads
from bareclip.tokenizer import Tokenizer

from .errors import ParityError

# On normalised vectors. float32 towers land near 2e-7; a wrong constant far above.
TOLERANCE = 1e-5


def verify(
    graph: Path,
    batches: Sequence[NDArray[Any]],
    reference: Callable[[NDArray[Any]], NDArray[Any]],
    reference_name: str,
    pad_id: int = 0,
) -> Parity:
    """Compares a graph in ONNX Runtime, batch by batch, with a reference on all of them.

    Args:
        graph: The ``.onnx`` file.
        batches: Inputs, batch first.
        reference: (a batch) -> (N, D) unit rows.
        reference_name: What the parity record calls it.
        pad_id: Fills texts up where batches are not of one width.

    Returns:
        What was measured.

    Raises:
        ParityError: A vector differs by more than ``TOLERANCE``.
    """
    tower = Tower.load(graph, Device("cpu", required=True), Threads())
    answers = np.concatenate([tower.run(batch) for batch in batches])
    del tower  # frees its weights before the reference reads them again
    wanted = reference(_joined(batches, pad_id))
    difference = float(np.abs(answers - wanted).max())
    parity = Parity(
        reference=reference_name,
        max_difference=difference,
        min_cosine=float(np.diagonal(cosine(answers.astype(np.float64), wanted)).min()),
        inputs=len(answers),
    )
    if not difference <= TOLERANCE:  # NaN fails too
        raise ParityError(
            f"the {graph.stem} tower differs from {reference_name} by {difference:.1e}, more "
            f"than {TOLERANCE:.0e}, on normalised vectors; nothing was written. "
            "Please report this checkpoint"
        )
    return parity


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


def sample_pixels(size: int) -> list[NDArray[np.uint8]]:
    """Pictures to verify on: two like scenes, one drawn, one of noise.

    Args:
        size: Pixels a side.

    Returns:
        Batches of (N, size, size, 3) uint8, seeded.
    """
    pictures = drawn_pixels(size, 4)
    return [pictures[:2], pictures[2:]]


def sample_ids(tokenizer: Tokenizer, vocabulary: int) -> list[NDArray[np.int64]]:
    """Texts to verify on: short, long, empty, awkward; and random ids.

    Args:
        tokenizer: The bundle's.
        vocabulary: Rows of the token table.

    Returns:
        Batches of (N, T) int64, the last at full context length.
    """
    ids = tokenizer.encode(AWKWARD_TEXTS, truncate=True)
    recipe = tokenizer.recipe
    noise = np.random.default_rng(0).integers(0, vocabulary, (2, recipe.context_length))
    noise[0, recipe.context_length // 2] = recipe.end_id
    noise[:, -1] = recipe.end_id
    return [*(batch for _, batch in tokenizer.batches(ids, len(ids))), noise.astype(np.int64)]

"""What an export takes: the rows of a run that have a vector, in its order."""

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...encoders.fingerprint import Fingerprint
from ...errors import ShardError
from ...scoring.vectors import unit_rows
from ..engines import finished
from ..model import read_model
from ..part import Footer, VectorType
from ..plans import Plan

# Called with how many rows have been taken.
Report: TypeAlias = Callable[[int], None]

# Of a picture, beside its vector.
PICTURE = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("caption", pa.string()),
        ("url", pa.string()),
    ]
)
# Rows in memory at a time.
_ROWS = 8192
# Footers that are read at a time.
_REQUESTS = 32


@dataclass(frozen=True)
class Batch:
    """Some rows, all of one shard.

    Attributes:
        first: The number of the first of them, counted through the whole export from 0.
        pictures: Arrow's record batch, as ``PICTURE``.
        vectors: (N, D), as the parts have them.
    """

    first: int
    pictures: Any
    vectors: NDArray[Any]

    @property
    def ids(self) -> NDArray[np.int64]:
        return np.arange(self.first, self.first + len(self.vectors), dtype=np.int64)

    def unit(self) -> NDArray[np.float32]:
        """The vectors as the run's own search compares them: float32, of length 1."""
        rows = unit_rows(self.vectors, "vectors", self.vectors.shape[1])
        return rows.astype(np.float32, copy=False)

    def list_column(self) -> Any:
        """The vectors as Arrow's lists of a fixed size."""
        numbers = pa.array(self.vectors.ravel())
        return pa.FixedSizeListArray.from_arrays(numbers, self.vectors.shape[1])


@dataclass(frozen=True)
class Embedded:
    """The rows of a run that have a vector.

    Attributes:
        plan: The run's.
        model: What made the vectors.
        counts: Number of a shard that has a part -> its rows with a vector, in order.
        failed: Rows without one, which are left out.
        report: Called as rows are taken; None where nobody asks.
    """

    plan: Plan
    model: Fingerprint
    counts: dict[int, int]
    failed: int
    report: Report | None = None

    def __len__(self) -> int:
        return sum(self.counts.values())

    @property
    def width(self) -> int:
        return self.model.width

    @property
    def vectors(self) -> VectorType:
        return self.plan.info.vectors

    @classmethod
    def of(cls, plan: Plan, *, partial: bool, report: Report | None = None) -> "Embedded":
        """Counts what a run has; reads the footer of every part.

        Args:
            plan: The run's.
            partial: Take what is done of a run that is not finished.
            report: Called as rows are taken.

        Raises:
            ShardError: It is not finished, or has nothing yet; a part is damaged or of another
                model.
        """
        done = sorted(finished(plan))
        if len(done) < len(plan) and not partial:
            raise ShardError(
                f"{plan.out} has {len(done)} of {len(plan)} shards; finish it with: "
                f"bareclip shards run {plan.out}, or take what is there with --partial"
            )
        model = read_model(plan)
        if model is None or not done:
            raise ShardError(
                f"{plan.out} holds no vectors yet; make them with: bareclip shards run {plan.out}"
            )

        def read(index: int) -> Footer:
            footer = plan.part(index).footer()
            if (footer.model, footer.run) != (model, plan.info.id):
                raise _damaged(plan, index, "the footer of another model or run")
            return footer

        with ThreadPoolExecutor(_REQUESTS, "bareclip-footers") as pool:
            footers = list(pool.map(read, done))
        counts = {index: footer.embedded for index, footer in zip(done, footers, strict=True)}
        return cls(plan, model, counts, sum(footer.failed for footer in footers), report)

    def batches(self) -> Iterator[Batch]:
        """All rows, in order, some thousand at a time.

        Raises:
            ShardError: A part is damaged, or has not the rows that its footer says.
        """
        first = 0
        for shard, count in self.counts.items():
            yield from self.shard(shard, first)
            first += count

    def files(self, rows: int) -> Iterator[tuple[int, int, Iterator[Batch]]]:
        """All rows, for several files of so many each; for one without any where there are none.

        Yields:
            The number of a file, how many rows it is to have, and those.
        """
        batches = (piece for batch in self.batches() for piece in _cut(batch, rows))
        for number, several in groupby(batches, lambda batch: batch.first // rows):
            yield number, min(rows, len(self) - number * rows), several
        if len(self) == 0:
            yield 0, 0, iter(())

    def shard(self, index: int, first: int = 0) -> Iterator[Batch]:
        """The rows of one shard; ``first`` is the number of the first of them."""
        part = self.plan.part(index)
        wanted = np.dtype(self.vectors)
        end = first + self.counts[index]
        for batch, vectors in part.batches(["vector", *PICTURE.names], _ROWS):
            if vectors is None or not len(vectors):
                continue
            if vectors.shape[1] != self.width or vectors.dtype != wanted:
                raise _damaged(self.plan, index, f"vectors of {vectors.shape[1]} {vectors.dtype}")
            if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
                raise _damaged(self.plan, index, "NaN, infinity or zero for a vector")
            valid = batch.filter(batch.column("vector").is_valid())
            pictures = pa.record_batch(
                [valid.column(name) for name in PICTURE.names], schema=PICTURE
            )
            yield Batch(first, pictures, vectors)
            first += len(vectors)
            if self.report is not None:
                self.report(first)
        if first != end:
            raise _damaged(self.plan, index, "not the rows that its footer says")


def needed(module: str, install: str) -> Any:
    """A package that only one kind of export needs.

    Raises:
        ShardError: It is not installed; says what to do.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ShardError(f"this export needs {module} ({error}): pip install {install}") from error


def _damaged(plan: Plan, index: int, what: str) -> ShardError:
    return ShardError(
        f"{plan.part(index).place.uri} has {what}; see: bareclip shards verify {plan.out}"
    )


def _cut(batch: Batch, rows: int) -> Iterator[Batch]:
    start = 0
    while start < len(batch.vectors):
        first = batch.first + start
        count = min(len(batch.vectors) - start, rows - first % rows)
        yield Batch(first, batch.pictures.slice(start, count), batch.vectors[start : start + count])
        start += count

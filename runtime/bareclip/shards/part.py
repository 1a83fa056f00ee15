"""A part: the Parquet file that one shard becomes, and the footer that says what is in it.

Columns: ``key``, ``vector`` (a list of nulls where it failed), ``error`` (null where it did not),
``source``, ``offset``, ``caption``, ``url``. A null instead of the list would be plainer, and no
pyarrow before 26 reads one from among lists of a fixed size. Of the file's key-value metadata,
``bareclip`` is the model's fingerprint, as an export of the photo index has it, and
``bareclip.shard`` the rest, as JSON.
"""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..encoders.fingerprint import Fingerprint
from ..errors import ShardError, short
from ..types import Vectors
from .places import Place
from .records import Damage, Record

VectorType = Literal["float16", "float32"]

# Rows that are brought into Arrow's form together: what is held of a shard is then its numbers.
_ROWS = 1024
_MODEL, _SHARD = b"bareclip", b"bareclip.shard"
_FORMAT = 1
# Reasons that are told apart in a footer; the rows have all of them in full.
_REASONS = 50


@dataclass(frozen=True)
class Footer:
    """What a part says of itself.

    Attributes:
        run: The plan's id.
        shard: Its number.
        rows: Pictures that the source has: ``embedded + failed``.
        failures: Reason, numbers in it replaced by N -> how many.
        sources: What was read: its address, its size, and its ETag or time. None of a shard of
            pictures that are files of their own, whose rows name them.
        vectors: ``"float16"`` or ``"float32"``.
        sha256: Of the bytes of all vectors, in order, little-endian.
        attempt: Counted from 1; from the third on, pictures were decoded in a child.
        host: The machine that made it.
        started: Seconds since 1970.
        seconds: How long it took.
        damaged: Where a source could not be read to its end.
        model: What made the vectors.
    """

    run: str
    shard: int
    rows: int
    embedded: int
    failed: int
    failures: dict[str, int]
    sources: tuple[dict[str, Any], ...]
    vectors: VectorType
    sha256: str
    attempt: int
    host: str
    started: float
    seconds: float
    damaged: tuple[Damage, ...]
    model: Fingerprint

    @property
    def partial(self) -> bool:
        """Whether a source could not be read to its end."""
        return bool(self.damaged)

    def to_metadata(self) -> dict[bytes, bytes]:
        told = asdict(self)
        model = told.pop("model")
        told["format"] = _FORMAT
        return {_MODEL: json.dumps(model).encode(), _SHARD: json.dumps(told).encode()}

    @classmethod
    def from_metadata(cls, found: dict[bytes, bytes], name: str) -> "Footer":
        """Reads what ``to_metadata`` gave.

        Raises:
            ShardError: It is not all there, or of a newer version.
        """
        try:
            told = json.loads(found[_SHARD])
            version = told.pop("format")
            if version != _FORMAT:
                raise ShardError(
                    f"{name} has format {short(version)}; this bareclip reads {_FORMAT}: "
                    "update bareclip"
                )
            told["damaged"] = tuple(Damage(**one) for one in told["damaged"])
            told["sources"] = tuple(told["sources"])
            footer = cls(**told, model=Fingerprint.parse(found[_MODEL]))
            for count in (footer.shard, footer.rows, footer.embedded, footer.failed):
                if type(count) is not int:
                    raise TypeError(f"{short(count)} where a count is meant")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ShardError(f"{name} has no footer of bareclip's: {short(str(error))}") from error
        return footer


class Rows:
    """The rows of a part, as they come; in Arrow's form but for the last thousand."""

    def __init__(self, width: int, vectors: VectorType) -> None:
        self.width, self.vectors = width, vectors
        self.failures: Counter[str] = Counter()
        self.count = self.embedded = 0
        self._digest = hashlib.sha256()
        self._kind = np.dtype(vectors).newbyteorder("<")
        self._waiting: list[tuple[Record, NDArray[Any] | None]] = []
        self._sealed: list[Any] = []

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, record: Record, vector: Vectors | None) -> None:
        """Takes the next row; one without a vector has an error."""
        row = None if vector is None else vector.astype(self._kind)
        self.count += 1
        if row is None:
            self.failures[_grouped(str(record.error))] += 1
        else:
            self.embedded += 1
            self._digest.update(row.tobytes())
        self._waiting.append((record, row))
        # What is said of a picture may come behind it, until the next sample begins.
        if len(self._waiting) > _ROWS and self._waiting[-2][0].about is not record.about:
            self._seal(len(self._waiting) - 1)

    def to_parquet(self, footer: Footer) -> bytes:
        """The whole part."""
        self._seal(len(self._waiting))
        schema = self._schema().with_metadata(footer.to_metadata())
        file = io.BytesIO()
        with pq.ParquetWriter(
            file,
            schema,
            use_dictionary=["source", "error"],
            compression={name: "zstd" if name != "vector" else "none" for name in schema.names},
            write_statistics=["key"],
        ) as writer:
            for batch in self._sealed:
                writer.write_batch(batch)
        return file.getvalue()

    def _schema(self) -> Any:
        return pa.schema(
            [
                ("key", pa.string()),
                ("vector", pa.list_(_arrow(self.vectors), self.width)),
                ("error", pa.string()),
                ("source", pa.string()),
                ("offset", pa.int64()),
                ("caption", pa.string()),
                ("url", pa.string()),
            ]
        )

    def _seal(self, count: int) -> None:
        rows, self._waiting = self._waiting[:count], self._waiting[count:]
        records = [record for record, _ in rows]
        columns = [
            pa.array([one.key for one in records], pa.string()),
            vector_lists([row for _, row in rows], self.width, self.vectors),
            pa.array([one.error for one in records], pa.string()),
            pa.array([one.source for one in records], pa.string()),
            pa.array([one.offset for one in records], pa.int64()),
            pa.array([one.about.caption for one in records], pa.string()),
            pa.array([one.about.url for one in records], pa.string()),
        ]
        self._sealed.append(pa.record_batch(columns, schema=self._schema()))


def vector_lists(rows: Sequence[NDArray[Any] | None], width: int, kind: VectorType) -> Any:
    """Arrow's lists of a fixed size; of nulls where there is no vector.

    Not nulls themselves, which pyarrow before 26 cannot read back from Parquet.
    """
    failed = np.array([row is None for row in rows], bool)
    numbers = np.zeros((len(rows), width), kind)
    for place, row in enumerate(rows):
        if row is not None:
            numbers[place] = row
    values = pa.array(numbers.ravel(), mask=np.repeat(failed, width))
    return pa.FixedSizeListArray.from_arrays(values, width)


@dataclass(frozen=True)
class Part:
    """A part that was written.

    Attributes:
        place: Where it lies.
        size: Its bytes, as a listing has them.
    """

    place: Place
    size: int | None = field(default=None, compare=False)

    def footer(self) -> Footer:
        """What it says of itself; two requests to a store.

        Raises:
            ShardError: It cannot be read, or is none of ours.
        """
        with self._opened() as file:
            return Footer.from_metadata(file.metadata.metadata or {}, self.place.uri)

    def batches(
        self, columns: Sequence[str], rows: int = 8192
    ) -> Iterator[tuple[Any, NDArray[Any] | None]]:
        """Its rows, some thousand at a time.

        Args:
            columns: Those that are wanted.
            rows: At most.

        Yields:
            Arrow's record batch, its vectors null where they failed; and, where ``vector`` is
            among the columns, the others, (K, D) in their own type.

        Raises:
            ShardError: It cannot be read.
        """
        try:
            with self._opened() as file:
                for batch in file.iter_batches(rows, columns=list(columns)):
                    yield _with_vectors(batch) if "vector" in columns else (batch, None)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.place, error) from error

    def _opened(self) -> Any:
        try:
            return pq.ParquetFile(self.place.open())
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.place, error) from error


def _with_vectors(batch: Any) -> tuple[Any, NDArray[Any]]:
    """A batch whose lists of nulls are null, and the other lists."""
    place = batch.schema.get_field_index("vector")
    column = batch.column(place)
    if not pa.types.is_fixed_size_list(column.type):
        raise pa.ArrowInvalid(f"vector is {column.type}, no list of a fixed size")
    values = column.flatten()
    numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    numbers = numbers.reshape(-1, column.type.list_size)
    if not values.null_count:
        return batch, numbers
    empty = values.is_null().to_numpy(zero_copy_only=False).reshape(numbers.shape).all(axis=1)
    valid = pa.py_buffer(np.packbits(~empty, bitorder="little").tobytes())
    lists = pa.Array.from_buffers(
        column.type, len(batch), [valid], int(empty.sum()), children=[values]
    )
    columns = [lists if i == place else one for i, one in enumerate(batch.columns)]
    return pa.record_batch(columns, schema=batch.schema), numbers[~empty]


def _unreadable(place: Place, error: BaseException) -> ShardError:
    return ShardError(f"cannot read {place.uri}: {' '.join(str(error).split())}")


def _arrow(kind: VectorType) -> Any:
    return pa.float16() if kind == "float16" else pa.float32()


def _grouped(reason: str) -> str:
    return re.sub(r"\d[\d,]*", "N", reason)

"""The plan: which pictures are in which shard, with what tells whether they have changed since.

Written once, in ``OUT/plan.parquet``, sorted by shard, a row for each piece of a source; then
``OUT/run.json``, whose existence means that the plan is whole.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..encoders.fingerprint import Decoding
from ..errors import ShardError, short
from .part import Part, VectorType
from .places import Place, Version
from .tables import Columns

Kind = Literal["tar", "parquet", "picture"]

FORMAT = 1
ROWS = 10_000
# Pieces of a row group of the plan: what is read of it to know a shard.
_GROUP = 10_000
_SCHEMA = pa.schema(
    [
        ("shard", pa.int64()),
        ("kind", pa.string()),
        ("source", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("first", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Piece:
    """A source, or a part of one, that a shard reads.

    Attributes:
        kind: ``"tar"``, ``"parquet"`` or ``"picture"``.
        source: Its address.
        version: Of the whole source, when it was planned.
        first, rows: Of a Parquet file's rows; 0 and None of a tar, 0 and 1 of a picture.
        bytes: How much of the source that is, about.
    """

    kind: Kind
    source: str
    version: Version
    first: int
    rows: int | None
    bytes: int


@dataclass(frozen=True)
class Shard:
    """What one worker does at a time.

    Attributes:
        index: Its number, from 0.
        pieces: Read one after another.
    """

    index: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class RunInfo:
    """What ``run.json`` says.

    Attributes:
        format: Of the folder.
        id: SHA-256 of ``plan.parquet``; every part has it.
        bareclip: The version that planned.
        created: When, in ISO 8601.
        sources: As they were given.
        shards: How many.
        bytes: Of all sources.
        pictures: How many; None where tars are among the sources, which nobody has counted.
        rows: Of a shard, at most, where a source can be cut.
        vectors: Type of the numbers.
        decoding: ``"scaled"`` decodes large JPEGs small, as the photo index does.
        columns: Of the Parquet sources; None where there are none.
    """

    format: int
    id: str
    bareclip: str
    created: str
    sources: tuple[str, ...]
    shards: int
    bytes: int
    pictures: int | None
    rows: int
    vectors: VectorType
    decoding: Decoding
    columns: Columns | None


@dataclass(frozen=True)
class Plan:
    """A plan that was written. Can be pickled; it holds an address and ``run.json``.

    Attributes:
        out: The run's folder.
        info: What ``run.json`` says.

    Examples:
        >>> plan = shards.plan(["photos"], "OUT")
        >>> len(plan), shards.Plan.read("OUT") == plan
        (1, True)
    """

    out: str
    info: RunInfo

    @classmethod
    def read(cls, out: str | os.PathLike[str]) -> "Plan":
        """Reads the plan of a run.

        Raises:
            ShardError: There is none, or of a newer version.
        """
        place = Place.at(out)
        marker = place / "run.json"
        if marker.info() is None:
            raise ShardError(
                f"{place.uri} holds no run: it has no run.json; plan one with: "
                f"bareclip shards plan SRC... -o {place.uri}"
            )
        try:
            told = json.loads(marker.read())
            if told["format"] != FORMAT:
                raise ShardError(
                    f"{marker.uri} has format {short(told['format'])}; this bareclip reads "
                    f"{FORMAT}: update bareclip"
                )
            columns = told["columns"]
            told["columns"] = None if columns is None else Columns(**columns)
            told["sources"] = tuple(told["sources"])
            info = RunInfo(**told)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ShardError(f"{marker.uri} is damaged: {short(str(error))}") from error
        return cls(place.uri, info)

    def __len__(self) -> int:
        return self.info.shards

    @property
    def place(self) -> Place:
        return Place(self.out)

    def part(self, index: int) -> Part:
        """Where the part of a shard lies, or will."""
        return Part(self.place / "parts" / f"part-{index:06}.parquet")

    def shard(self, index: int) -> Shard:
        """What a shard reads; some of the plan is read for it.

        Raises:
            ShardError: There is no such shard, or the plan is not the one that was written.
        """
        if not 0 <= index < len(self):
            raise ShardError(f"there is no shard {index}: the plan has {len(self)}, from 0")
        pieces: list[Piece] = []
        for group, (lowest, highest) in enumerate(self._groups):
            if lowest <= index <= highest:
                rows = _read_group(self.out, self.info.id, group)
                pieces += [piece for number, piece in rows if number == index]
        return Shard(index, tuple(pieces))

    def shards(self) -> Iterator[Shard]:
        """All shards, in order; some of the plan is in memory at a time."""
        index = 0
        pieces: list[Piece] = []
        for group in range(len(self._groups)):
            for number, piece in _read_group(self.out, self.info.id, group):
                if number != index:
                    yield Shard(index, tuple(pieces))
                    index, pieces = number, []
                pieces.append(piece)
        if pieces:
            yield Shard(index, tuple(pieces))

    @cached_property
    def _groups(self) -> list[tuple[int, int]]:
        """The first and the last shard of each row group of the plan."""
        with _opened(self.place) as file:
            about = file.metadata
            found = []
            for i in range(about.num_row_groups):
                statistics = about.row_group(i).column(0).statistics
                found.append((statistics.min, statistics.max))
        return found


@lru_cache(maxsize=4)
def _read_group(out: str, run: str, group: int) -> list[tuple[int, Piece]]:
    with _opened(Place(out)) as file:
        rows = file.read_row_group(group).to_pylist()
    return [
        (
            row["shard"],
            Piece(
                row["kind"],
                row["source"],
                Version(row["size"], row["version"]),
                row["first"],
                row["rows"],
                row["bytes"],
            ),
        )
        for row in rows
    ]


def _opened(out: Place) -> Any:
    place = out / "plan.parquet"
    try:
        return pq.ParquetFile(place.open())
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"cannot read {place.uri}: {' '.join(str(error).split())}") from error


def plan(
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rows: int = ROWS,
    vectors: VectorType = "float16",
    decoding: Decoding = "scaled",
    image_column: str | None = None,
    key_column: str | None = None,
    exclude: Iterable[str] | None = None,
) -> Plan:
    """Cuts pictures into shards, and writes that down in ``out``, once.

    Args:
        sources: Folders, WebDataset tars, Parquet files, and patterns of them such as
            ``s3://bucket/train/*.tar``. A folder that holds tars, or Parquet files and no
            pictures, stands for those; any other for its pictures.
        out: The run's folder, to be made; local, or as ``s3://bucket/run``.
        rows: Of a shard at most. A tar is one shard, however large.
        vectors: ``"float16"`` or ``"float32"``.
        decoding: ``"scaled"`` decodes large JPEGs at 1/2, 1/4 or 1/8 where that is still at
            least twice the model's size; ``"exact"`` decodes all of them whole.
        image_column, key_column: Of Parquet files, where their names are not the usual ones.
        exclude: Patterns of what is left out of folders; None is hidden files and ``@eaDir``.

    Returns:
        The plan, as ``Plan.read(out)`` gives it.

    Raises:
        ShardError: ``out`` has a run already; a source cannot be read, is of no known kind, or
            occurs twice; a key occurs twice.

    Examples:
        >>> shards.plan("photos", "OUT", rows=5).info.shards
        3
    """
    from .cutting import shards_of

    for name, chosen, known in (
        ("vectors", vectors, get_args(VectorType)),
        ("decoding", decoding, get_args(Decoding)),
    ):
        if chosen not in known:
            raise ShardError(f"{name} {short(chosen)} is unknown; it is {' or '.join(known)}")
    if type(rows) is not int or rows < 1:
        raise ShardError(f"rows is {short(rows)}; it must be at least 1")
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    place = Place.at(out)
    if (place / "run.json").info() is not None:
        raise ShardError(
            f"{place.uri} holds a run already, and plans are written once; run it with: "
            f"bareclip shards run {place.uri}, or give another folder"
        )
    found, columns = shards_of(given, rows, image_column, key_column, exclude)
    if not found:
        raise ShardError(f"{', '.join(map(str, given))}: no pictures there")
    data = _encoded(found)
    counts = [piece.rows for shard in found for piece in shard.pieces]
    info = RunInfo(
        format=FORMAT,
        id=hashlib.sha256(data).hexdigest(),
        bareclip=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=tuple(Place.at(one).uri for one in given),
        shards=len(found),
        bytes=sum(piece.bytes for shard in found for piece in shard.pieces),
        pictures=None if None in counts else sum(count or 0 for count in counts),
        rows=rows,
        vectors=vectors,
        decoding=decoding,
        columns=columns,
    )
    (place / "plan.parquet").write(data)
    (place / "run.json").write((json.dumps(asdict(info), indent=2) + "\n").encode())
    return Plan(place.uri, info)


def _encoded(found: Sequence[Shard]) -> bytes:
    file = io.BytesIO()
    with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
        waiting: list[dict[str, Any]] = []
        for shard in found:
            waiting += [_row(shard.index, piece) for piece in shard.pieces]
            if len(waiting) >= _GROUP or shard is found[-1]:
                writer.write_table(pa.Table.from_pylist(waiting, _SCHEMA))
                waiting = []
    return file.getvalue()


def _row(index: int, piece: Piece) -> dict[str, Any]:
    return {
        "shard": index,
        "kind": piece.kind,
        "source": piece.source,
        "size": piece.version.size,
        "version": piece.version.tag,
        "first": piece.first,
        "rows": piece.rows,
        "bytes": piece.bytes,
    }

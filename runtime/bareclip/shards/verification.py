"""Counts what came out of a run against what went in, and looks at every vector.

What went in is counted anew (recount.py). Memory does not grow with the run.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..encoders.fingerprint import Fingerprint
from ..errors import ShardError, short
from .distinct import twice
from .engines import finished
from .model import read_model
from .part import Footer
from .places import Place
from .plans import Plan, Shard
from .recount import img2dataset_count, keys_of
from .work import check_sources

# Shards that are looked at together.
_SHARDS = 4
# How far the length of a vector of float16 is from 1: each number is off by at most 2**-11 of
# itself, and so is the length.
_TOLERANCE = {"float16": 2.0**-11, "float32": 1e-5}


@dataclass(frozen=True)
class Problem:
    """Something that is missing or wrong.

    Attributes:
        shard: Its number; None where it is of the whole run.
        what: One line.
    """

    shard: int | None
    what: str


@dataclass(frozen=True)
class Report:
    """What a verification found.

    Attributes:
        shards: How many the plan has.
        rows, embedded, failed: Pictures, as counted in the parts.
        problems: None where all is well.
        notes: Of what is odd in the input, and right in the output: tars that are cut.
    """

    shards: int
    rows: int
    embedded: int
    failed: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


@dataclass
class _Counts:
    rows: int = 0
    embedded: int = 0


def verify(out: str | os.PathLike[str] | Plan) -> Report:
    """Holds a run against its input.

    A part for each shard and none besides; in = embedded + failed, by an independent count; keys
    in the source's order, none with two vectors in the whole run; checksums, lengths of vectors,
    no NaN; one model; and sources as they were planned.

    Args:
        out: The run's folder, or its plan.

    Raises:
        ShardError: There is no run, or its plan is damaged.

    Examples:
        >>> plan = shards.plan("photos", "OUT")
        >>> [problem.what for problem in shards.verify(plan).problems]
        ['it has no part']
    """
    plan = out if isinstance(out, Plan) else Plan.read(out)
    if hashlib.sha256((plan.place / "plan.parquet").read()).hexdigest() != plan.info.id:
        raise ShardError(f"{plan.out}/plan.parquet is not the plan that run.json was written for")
    model = read_model(plan)
    problems = [Problem(None, what) for what in _foreign(plan)]
    if model is None and finished(plan):
        problems.append(Problem(None, "model.json, which says what made its vectors, is missing"))
    notes: list[Problem] = []
    total = _Counts()
    with ThreadPoolExecutor(_SHARDS, "bareclip-verify") as pool:
        for group in _groups(plan.shards()):
            for looked_at in pool.map(lambda shard: _Look(plan, shard, model).all(), group):
                problems += looked_at.problems
                notes += looked_at.notes
                total.rows += looked_at.counts.rows
                total.embedded += looked_at.counts.embedded
    for key in twice(lambda: _keys_with_vectors(plan)):
        problems.append(Problem(None, f"key {short(key)} has two vectors"))
    return Report(
        len(plan),
        total.rows,
        total.embedded,
        total.rows - total.embedded,
        tuple(problems),
        tuple(notes),
    )


def _groups(shards: Iterator[Shard]) -> Iterator[list[Shard]]:
    group = []
    for shard in shards:
        group.append(shard)
        if len(group) == _SHARDS:
            yield group
            group = []
    if group:
        yield group


def _foreign(plan: Plan) -> Iterator[str]:
    own = {plan.part(index).place.uri for index in range(len(plan))}
    for found in (plan.place / "parts").files(recursive=True):
        if found.uri not in own and not re.search(r"\.parquet\.[0-9a-f]{8}\.part$", found.uri):
            yield f"{found.uri} is no part of this run"


def _keys_with_vectors(plan: Plan) -> Iterator[str]:
    for index in sorted(finished(plan)):
        try:
            for batch, _ in plan.part(index).batches(["key", "error"]):
                valid = batch.column("error").is_null()
                yield from (key for key in batch.column("key").filter(valid).to_pylist() if key)
        except ShardError:  # said already
            continue


class _Look:
    """Looks at a shard."""

    def __init__(self, plan: Plan, shard: Shard, model: Fingerprint | None) -> None:
        self._plan, self._shard, self._model = plan, shard, model
        self._part = plan.part(shard.index)
        self.counts = _Counts()
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []

    def all(self) -> "_Look":
        try:
            check_sources(self._shard)
            self._check_pictures()
        except ShardError as error:
            self._wrong(str(error))
        try:
            if self._part.place.info() is None:
                self._wrong("it has no part")
            else:
                footer = self._part.footer()
                self._check_footer(footer)
                self._check_rows(footer)
        except ShardError as error:
            self._wrong(str(error))
        return self

    def _wrong(self, what: str) -> None:
        self.problems.append(Problem(self._shard.index, what))

    def _check_pictures(self) -> None:
        """Pictures that are files of their own, as they were planned."""
        for piece in self._shard.pieces:
            if piece.kind == "picture" and Place(piece.source).listed_version() != piece.version:
                self._wrong(f"{piece.source} has changed since the plan was made, or is gone")

    def _check_footer(self, footer: Footer) -> None:
        if footer.run != self._plan.info.id:
            self._wrong("its part is of another run")
        if footer.shard != self._shard.index:
            self._wrong(f"its part is of shard {footer.shard}")
        if self._model is not None and footer.model != self._model:
            self._wrong(f"its part was made with another model, {footer.model.model}")
        planned = [p for p in self._shard.pieces if p.kind != "picture"]
        if [(one.get("source"), one.get("size"), one.get("tag")) for one in footer.sources] != [
            (piece.source, piece.version.size, piece.version.tag) for piece in planned
        ]:
            self._wrong("its part was made of other sources than were planned")
        for one in footer.damaged:
            self.notes.append(
                Problem(
                    self._shard.index,
                    f"{one.source} cannot be read on from byte {one.offset}, after {one.rows} "
                    f"pictures: {one.reason}",
                )
            )

    def _check_rows(self, footer: Footer) -> None:
        digest = hashlib.sha256()
        wanted = (key for piece in self._shard.pieces for key in keys_of(self._plan, piece))
        counted, ordered = 0, True
        for batch, vectors in self._part.batches(["key", "vector", "error"]):
            assert vectors is not None
            self._check_numbers(vectors, footer)
            digest.update(vectors.astype(vectors.dtype.newbyteorder("<"), copy=False).tobytes())
            self._check_errors(batch)
            for row, key in enumerate(batch.column("key").to_pylist(), self.counts.rows):
                expected = next(wanted, None)
                counted += expected is not None
                if ordered and key != expected:
                    ordered = False
                    self._wrong(
                        f"row {row} and on: key {short(key)} where its source has "
                        f"{'nothing more' if expected is None else short(expected)}"
                    )
            self.counts.rows += len(batch)
            self.counts.embedded += len(vectors)
        counted += sum(1 for _ in wanted)
        if counted != self.counts.rows:
            self._wrong(f"its source holds {counted} pictures, and its part {self.counts.rows}")
        failed = self.counts.rows - self.counts.embedded
        told = (footer.rows, footer.embedded, footer.failed)
        if told != (self.counts.rows, self.counts.embedded, failed):
            self._wrong(
                f"its footer says {told[0]} rows, {told[1]} embedded, {told[2]} failed; it has "
                f"{self.counts.rows}, {self.counts.embedded} and {failed}"
            )
        if sum(footer.failures.values()) != failed:
            self._wrong("the reasons in its footer are not as many as its failures")
        if digest.hexdigest() != footer.sha256:
            self._wrong("its vectors are not those that were written: their checksum differs")
        self._check_img2dataset()

    def _check_numbers(self, vectors: NDArray[Any], footer: Footer) -> None:
        if vectors.dtype != footer.vectors:
            self._wrong(f"its vectors are {vectors.dtype}, not {footer.vectors}")
        if self._model is not None and vectors.shape[1] != self._model.width:
            self._wrong(f"its vectors are {vectors.shape[1]} wide, not {self._model.width}")
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        finite = np.isfinite(lengths)
        if not finite.all():
            self._wrong(f"{int((~finite).sum())} vectors hold NaN or infinity")
        off = np.abs(lengths[finite] - 1) > _TOLERANCE.get(footer.vectors, 0.0)
        if off.any():
            self._wrong(f"{int(off.sum())} vectors are not of length 1")

    def _check_errors(self, batch: Any) -> None:
        failed = batch.column("vector").is_null().to_pylist()
        both = neither = 0
        for has_failed, error in zip(failed, batch.column("error").to_pylist(), strict=True):
            both += not has_failed and error is not None
            neither += has_failed and not error
        if both:
            self._wrong(f"{both} rows have both a vector and an error")
        if neither:
            self._wrong(f"{neither} rows have neither a vector nor an error")

    def _check_img2dataset(self) -> None:
        for piece in self._shard.pieces:
            said = img2dataset_count(piece)
            if said is not None and said != self.counts.rows:
                self._wrong(
                    f"img2dataset put {said} pictures into {Place(piece.source).name}, and its "
                    f"part has {self.counts.rows}"
                )

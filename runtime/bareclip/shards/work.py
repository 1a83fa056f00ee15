"""One shard's work, whatever engine asks for it."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..encoders import ImageEncoder
from ..errors import ShardError
from ..images.pixels import reason
from .attempts import Attempt, attempt, note_killer
from .decoding import decoded
from .isolation import DecoderDiedError, Isolated
from .model import claim_model
from .part import Footer, Rows
from .pictures import fetch
from .places import Place
from .plans import Piece, Plan, Shard
from .records import Damage, Record, SeveralKeys
from .tables import read_table
from .tars import read_tar

Pixels: TypeAlias = NDArray[np.uint8]
# Told, now and then, how many pictures of a shard are done, and how many of those failed.
Report: TypeAlias = Callable[[int, int], None]


def run_shard(plan: Plan, index: int, clip: Clip, *, report: Report | None = None) -> Footer:
    """Embeds one shard and commits its part, unless that is there already.

    The part appears whole or not at all. A picture that cannot be read is a row with a reason. A
    process that dies meanwhile leaves a mark in the run's folder; after two of them pictures are
    decoded in a child, and the one that kills it is a row like other failures.

    Args:
        plan: The run's.
        index: The shard's number, from 0.
        clip: The run's model; what a run was begun with, no other may go on with.
        report: Told how far it is, per batch.

    Returns:
        What the part says of itself.

    Raises:
        ShardError: Another model, a source that is gone or has changed since it was planned, or
            a folder that cannot be written. Nothing is committed then.

    Examples:
        >>> plan = shards.plan("photos", "OUT", rows=5)
        >>> footer = shards.run_shard(plan, 2, bareclip.load())
        >>> footer.rows, footer.embedded, footer.failed
        (2, 2, 0)
    """
    part = plan.part(index)
    shard = plan.shard(index)
    model = claim_model(plan, clip)
    if part.place.info() is not None:
        return part.footer()
    check_sources(shard)
    with attempt(plan.place, index) as this, ExitStack() as stack:
        started = time.time()
        damaged: list[Damage] = []
        rows = Rows(model.width, plan.info.vectors)
        decoder = _Decoder(plan, index, clip.images, this)
        stack.callback(decoder.close)
        records = _records(plan, shard, damaged.append)
        found = stack.enter_context(closing(clip.images.embed_each(records, decoder.read)))
        for record, vector in found:
            rows.add(record, vector)
            if report is not None:
                report(rows.count, rows.count - rows.embedded)
        footer = Footer(
            run=plan.info.id,
            shard=index,
            rows=rows.count,
            embedded=rows.embedded,
            failed=rows.count - rows.embedded,
            failures=dict(sorted(rows.failures.items())),
            sources=tuple(
                {"source": piece.source, **asdict(piece.version)}
                for piece in shard.pieces
                if piece.kind != "picture"
            ),
            vectors=plan.info.vectors,
            sha256=rows.sha256,
            attempt=this.number,
            host=socket.gethostname(),
            started=started,
            seconds=time.time() - started,
            damaged=tuple(damaged),
            model=model,
        )
        check_sources(shard)  # nor while it was read
        part.place.write(rows.to_parquet(footer))
    return footer


def check_sources(shard: Shard) -> None:
    """Refuses sources that were written since they were planned.

    Pictures that are files of their own are looked at when they are read, one by one.

    Raises:
        ShardError: One has changed, or is gone.
    """
    for piece in shard.pieces:
        if piece.kind == "picture":
            return
        now = Place(piece.source).version()
        if now != piece.version:
            what = "is no longer there" if now is None else "has changed since the plan was made"
            raise ShardError(
                f"{piece.source} {what}: put it back as it was, or plan again into another folder"
            )


def _records(
    plan: Plan, shard: Shard, damaged: Callable[[Damage], None]
) -> Iterator[tuple[int, Record]]:
    keys = SeveralKeys()
    number = 0
    for piece in shard.pieces:
        for record in _of_piece(plan, piece, damaged):
            yield number, keys.check(record)
            number += 1


def _of_piece(plan: Plan, piece: Piece, damaged: Callable[[Damage], None]) -> Iterator[Record]:
    place = Place(piece.source)
    if piece.kind == "tar":
        yield from read_tar(place, piece.version.size, damaged)
    elif piece.kind == "parquet":
        assert plan.info.columns is not None
        yield from read_table(place, plan.info.columns, piece.first, piece.rows or 0)
    else:
        get = partial(fetch, place, piece.version)
        yield Record(piece.source, piece.source, fetch=get)


class _Decoder:
    """Pixels of records, in this process, or from the third attempt on in a child."""

    def __init__(self, plan: Plan, shard: int, encoder: ImageEncoder, this: Attempt) -> None:
        scaled = plan.info.decoding == "scaled"
        self._plan, self._shard, self._this = plan, shard, this
        self._how: Any = (encoder.recipe, encoder.reading, scaled, encoder.max_pixels)
        self._child = Isolated(encoder, scaled) if this.isolated else None

    def read(self, numbered: tuple[int, Record]) -> tuple[Record, Pixels | None]:
        """What ``embed_each`` asks, in threads."""
        number, record = numbered
        if record.fetch is None:
            return record, None
        if number in self._this.killers:
            record.fetch, record.error = None, self._this.killers[number]
            return record, None
        try:
            data = record.fetch()
        except ShardError:
            raise
        except Exception as error:  # whatever a store raises for one picture
            record.fetch, record.error = None, reason(error)
            return record, None
        record.fetch = None  # which holds the bytes
        try:
            if self._child is None:
                pixels, record.error = decoded(data, *self._how)
            else:
                pixels, record.error = self._child.decode(data)
        except DecoderDiedError as error:
            pixels, record.error = None, str(error)
            note_killer(self._plan.place, self._shard, number, record.error)
        return record, pixels

    def close(self) -> None:
        if self._child is not None:
            self._child.close()

"""Runs of vectors that a test chooses: planned and written as any, but that no picture was read."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import bareclip
from bareclip import shards
from bareclip.encoders.fingerprint import Fingerprint
from bareclip.shards.part import Rows
from bareclip.shards.records import About, Record


def unit(seed: int, rows: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def write_run(
    folder: Path,
    clip: bareclip.Clip,
    keys: Sequence[str],
    vectors: Sequence[Any],
    *,
    kind: Any = "float32",
    width: int = 20,
    rows: int = 1000,
    captions: Sequence[str | None] | None = None,
    skip: Sequence[int] = (),
) -> shards.Plan:
    """A run in ``folder / "OUT"``.

    Args:
        folder: Where.
        clip: Whose vectors it says they are.
        keys, vectors, captions: Of each picture; a vector that is None is a failure.
        kind, width: Of the vectors.
        rows: Of a shard.
        skip: Shards that are not done yet.
    """
    source = folder / "in.parquet"
    pq.write_table(pa.table({"jpg": [b""] * len(keys), "key": list(keys)}), source)
    plan = shards.plan(source, folder / "OUT", rows=rows, vectors=kind)
    model = dataclasses.replace(Fingerprint.of(clip, "scaled"), width=width)
    (plan.place / "model.json").write(json.dumps(dataclasses.asdict(model)).encode())
    for shard in plan.shards():
        if shard.index in skip:
            continue
        part = Rows(width, kind)
        for i in range(shard.index * rows, min(len(keys), (shard.index + 1) * rows)):
            about = About(captions[i] if captions else None, f"http://example.org/{i}")
            error = "it is no picture" if vectors[i] is None else None
            part.add(Record(keys[i], str(source), i, about, error=error), vectors[i])
        footer = shards.Footer(
            run=plan.info.id,
            shard=shard.index,
            rows=part.count,
            embedded=part.embedded,
            failed=part.count - part.embedded,
            failures=dict(part.failures),
            sources=(),
            vectors=kind,
            sha256=part.sha256,
            attempt=1,
            host="",
            started=0.0,
            seconds=1.0,
            damaged=(),
            model=model,
        )
        plan.part(shard.index).place.write(part.to_parquet(footer))
    return plan

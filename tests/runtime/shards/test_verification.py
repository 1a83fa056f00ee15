"""What verify counts and finds: every corruption that is seeded, and nothing in a whole run."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from tests.runtime.shards import making

pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
pq = pytest.importorskip("pyarrow.parquet")

from bareclip import shards  # noqa: E402
from bareclip.shards.distinct import twice  # noqa: E402


class Run:
    """A finished run, to be damaged as somebody would who knows the format."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.plan = shards.Plan.read(out)

    def path(self, shard: int) -> Path:
        return Path(self.plan.part(shard).place.uri)

    def change(
        self, shard: int, edit: Callable[[list[dict[str, Any]]], None], **footer: Any
    ) -> None:
        """Writes a part again with other rows; its footer's counts and checksum fit them."""
        whole = pq.read_table(self.path(shard))
        rows = whole.to_pylist()
        edit(rows)
        for row in rows:  # pyarrow before 19 takes no other floats
            row["vector"] = [None if x is None else np.float16(x) for x in row["vector"]]
        vectors = [row["vector"] for row in rows if row["vector"] != [None] * 20]
        told = json.loads(whole.schema.metadata[b"bareclip.shard"])
        told["rows"], told["embedded"] = len(rows), len(vectors)
        told["failed"] = len(rows) - len(vectors)
        told["failures"] = {"any": told["failed"]} if told["failed"] else {}
        told["sha256"] = hashlib.sha256(
            np.array(vectors, float).astype("<f2").tobytes()
        ).hexdigest()
        told |= footer
        metadata = dict(whole.schema.metadata) | {b"bareclip.shard": json.dumps(told).encode()}
        schema = whole.schema.with_metadata(metadata)
        pq.write_table(pa.Table.from_pylist(rows, schema), self.path(shard))

    def change_model(self, shard: int, **model: Any) -> None:
        whole = pq.read_table(self.path(shard))
        told = json.loads(whole.schema.metadata[b"bareclip"]) | model
        metadata = dict(whole.schema.metadata) | {b"bareclip": json.dumps(told).encode()}
        pq.write_table(whole.replace_schema_metadata(metadata), self.path(shard))


def missing_part(run: Run) -> None:
    run.path(2).unlink()


def cut_part(run: Run) -> None:
    data = run.path(2).read_bytes()
    run.path(2).write_bytes(data[: len(data) // 2])


def row_dropped(run: Run) -> None:
    run.change(1, lambda rows: rows.pop(2))


def row_dropped_and_another_twice(run: Run) -> None:
    run.change(1, lambda rows: rows.__setitem__(2, rows[1]))


def vector_changed(run: Run) -> None:
    """To another unit vector, with the footer that was written."""
    whole = json.loads(pq.read_schema(run.path(1)).metadata[b"bareclip.shard"])
    turned = np.roll(np.eye(20)[0], 3).tolist()
    run.change(1, lambda rows: rows[0].update(vector=turned), sha256=whole["sha256"])


def vector_not_of_length_1(run: Run) -> None:
    run.change(1, lambda rows: rows[0].update(vector=[0.5, *[0.0] * 19]))


def not_a_number(run: Run) -> None:
    run.change(1, lambda rows: rows[0].update(vector=[float("nan")] * 20))


def key_twice(run: Run) -> None:
    """In two tars: each of them is as it was planned, and so are the parts."""
    folder = Path(run.plan.info.sources[0])
    shutil.copy(folder / "00000.tar", folder / "00002.tar")
    shutil.rmtree(run.out)
    shards.plan([folder, *run.plan.info.sources[1:]], run.out)
    clip = bareclip.load(Path(os.environ["BUNDLE_OF_TEST"]))
    assert len(list(shards.run(shards.Plan.read(run.out), clip))) == 4


def source_changed(run: Run) -> None:
    tar = Path(run.plan.shard(0).pieces[0].source)
    tar.write_bytes(tar.read_bytes() + bytes(10_240))


def picture_changed(run: Run) -> None:
    picture = Path(run.plan.shard(3).pieces[1].source)
    picture.write_bytes(making.jpeg(99))


def source_gone(run: Run) -> None:
    Path(run.plan.shard(0).pieces[0].source).unlink()


def another_model(run: Run) -> None:
    run.change_model(1, vision="0" * 64)


def another_precision(run: Run) -> None:
    run.change_model(3, precision="int8")


def wrong_count(run: Run) -> None:
    run.change(1, lambda rows: None, rows=6, embedded=6)


def wrong_failures(run: Run) -> None:
    run.change(0, lambda rows: None, failures={})


def foreign_part(run: Run) -> None:
    shutil.copy(run.path(1), run.path(0).with_name("part-000099.parquet"))


def part_of_another_shard(run: Run) -> None:
    shutil.copy(run.path(4), run.path(3))


def part_of_another_run(run: Run) -> None:
    run.change(2, lambda rows: None, run="0" * 64)


def order_changed(run: Run) -> None:
    run.change(1, lambda rows: rows.reverse())


def keys_changed(run: Run) -> None:
    run.change(3, lambda rows: rows[0].update(key="another"))


def error_without_reason(run: Run) -> None:
    run.change(0, lambda rows: rows[3].update(error=None))


def vector_and_error(run: Run) -> None:
    run.change(0, lambda rows: rows[0].update(error="it is fine"))


def vector_with_a_gap(run: Run) -> None:
    run.change(1, lambda rows: rows[0]["vector"].__setitem__(7, None))


def no_parquet(run: Run) -> None:
    run.path(1).write_bytes(b"")


def no_model(run: Run) -> None:
    (run.out / "model.json").unlink()


CORRUPTIONS = {
    missing_part: "shard 2: it has no part",
    cut_part: "shard 2: cannot read",
    row_dropped: "shard 1: its source holds 5 pictures, and its part 4",
    row_dropped_and_another_twice: "shard 1: row 2 and on: key '000000011' where its ",
    vector_changed: "shard 1: its vectors are not those that were written",
    vector_not_of_length_1: "shard 1: 1 vectors are not of length 1",
    not_a_number: "shard 1: 1 vectors hold NaN",
    key_twice: "None: key '000000000' has two vectors",
    source_changed: "shard 0: .*00000.tar has changed since",
    picture_changed: "shard 3: .*jpg has changed since",
    source_gone: "shard 0: .*00000.tar is no longer there",
    another_model: "shard 1: its part was made with another model",
    another_precision: "shard 3: its part was made with another model",
    wrong_count: "shard 1: its footer says 6 rows, 6 embedded, 0 failed; it has 5, 5 and 0",
    wrong_failures: "shard 0: the reasons in its footer are not as many as its failures",
    foreign_part: "None: .*part-000099.parquet is no part of this run",
    part_of_another_shard: "shard 3: its part is of shard 4",
    part_of_another_run: "shard 2: its part is of another run",
    order_changed: "shard 1: row 0 and on: key '000000014' where its source has '000000010'",
    keys_changed: "shard 3: row 0 and on: key 'another'",
    error_without_reason: "shard 0: 1 rows have neither a vector nor an error",
    vector_and_error: "shard 0: 1 rows have both a vector and an error",
    vector_with_a_gap: "shard 1: 1 vectors hold NaN",
    no_parquet: "shard 1: cannot read",
    no_model: "None: model.json, which says what made its vectors, is missing",
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda corrupt: corrupt.__name__)
def test_every_corruption_is_found(
    finished: Path,
    corrupt: Callable[[Run], None],
    bundles: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUNDLE_OF_TEST", str(bundles["tiny"]))
    whole = shards.verify(finished)
    assert (whole.problems, whole.notes) == ((), ())
    assert (whole.shards, whole.rows, whole.embedded, whole.failed) == (5, 19, 16, 3)
    corrupt(Run(finished))
    report = shards.verify(finished)
    found = [
        f"{'None' if one.shard is None else f'shard {one.shard}'}: {one.what}"
        for one in report.problems
    ]
    assert any(re.match(CORRUPTIONS[corrupt], one) for one in found), found


def test_another_plan_is_not_verified(finished: Path) -> None:
    path = finished / "plan.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)
    with pytest.raises(bareclip.ShardError, match="is not the plan that run.json was written for"):
        shards.verify(finished)


def test_what_img2dataset_says_counts_too(tmp_path: Path, clip: bareclip.Clip) -> None:
    making.write_tar(tmp_path / "in" / "00000.tar", making.samples(0, 4))
    stats = tmp_path / "in" / "00000_stats.json"
    stats.write_text(json.dumps({"count": 6, "successes": 4, "failed_to_download": 2}))
    plan = shards.plan(tmp_path / "in", tmp_path / "OUT")
    assert len(list(shards.run(plan, clip))) == 1
    assert shards.verify(plan).problems == ()
    stats.write_text(json.dumps({"successes": 5}))
    [problem] = shards.verify(plan).problems
    assert problem.what == "img2dataset put 5 pictures into 00000.tar, and its part has 4"


def test_what_is_being_written_is_no_foreign_part(finished: Path) -> None:
    (finished / "parts" / "part-000001.parquet.0123abcd.part").write_bytes(b"")
    assert shards.verify(finished).problems == ()


@pytest.mark.parametrize("seed", range(20))
def test_keys_that_occur_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 60_000))
    keys = [f"key {i}" for i in rng.permutation(count)]
    doubled = [
        str(key) for key in rng.choice(keys, min(count, int(rng.integers(0, 5))), replace=False)
    ]
    keys += doubled
    assert sorted(twice(lambda: keys)) == sorted(doubled)

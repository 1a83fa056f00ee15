"""One shard's work: what is in its part, what ends in a reason, and what ends it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import ShardError
from bareclip.images.pixels import read_pixels
from tests.machine import needs_proc
from tests.runtime.shards import killer, making

pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
pq = pytest.importorskip("pyarrow.parquet")

from bareclip import shards  # noqa: E402
from bareclip.shards import attempts, isolation, part  # noqa: E402

COLUMNS = ("key", "vector", "error", "source", "offset", "caption", "url")


def rows(plan: shards.Plan) -> list[dict[str, Any]]:
    return [
        row
        for index in range(len(plan))
        for batch, _ in plan.part(index).batches(COLUMNS)
        for row in batch.to_pylist()
    ]


def embedded(clip: bareclip.Clip, data: bytes) -> np.ndarray[Any, Any]:
    """By another way: pixels one by one, and no stream."""
    pixels = read_pixels(data, clip.images.recipe, "as_seen", scaled=True)
    return clip.images.embed_pixels(pixels[None])[0]


def run(plan: shards.Plan, clip: bareclip.Clip) -> list[shards.Footer]:
    footers = []
    for event in shards.run(plan, clip):
        assert isinstance(event, shards.Finished), event
        footers.append(event.footer)
    return footers


@pytest.mark.parametrize("vectors", ["float16", "float32"])
def test_every_picture_is_a_row_with_a_vector_or_a_reason(
    mixed: Path, tmp_path: Path, clip: bareclip.Clip, vectors: Any
) -> None:
    plan = shards.plan(mixed, tmp_path / "OUT", vectors=vectors)
    first, second = run(plan, clip)
    assert (first.rows, first.embedded, first.failed) == (6, 3, 3)
    assert (second.rows, second.embedded, second.failed) == (5, 5, 0)
    found = rows(plan)
    keys = [f"{i:09}" for i in (0, 1, 2)] + ["broken", "bomb", "000000001"]
    assert [row["key"] for row in found] == keys + [f"{i:09}" for i in range(10, 15)]
    for row in found[:3] + found[6:]:
        wanted = embedded(clip, making.jpeg(int(row["key"])))
        assert np.array_equal(np.array(row["vector"], vectors), wanted.astype(vectors))
        assert row["error"] is None
        assert row["caption"] == f"the caption of {int(row['key'])}"
        assert row["url"] == f"http://example.org/{int(row['key'])}"
        assert row["source"].endswith(".tar")
    for row, reason in zip(
        found[3:6], ("no image format", "20000x20000", "a second time"), strict=True
    ):
        assert row["vector"] is None
        assert reason in row["error"]
    assert sum(first.failures.values()) == 3
    schema = pq.read_schema(plan.part(0).place.uri)
    assert schema.field("vector").type == pa.list_(part._arrow(vectors), clip.bundle.embedding_dim)


def test_large_jpegs_are_decoded_small_as_the_index_does(
    tmp_path: Path, clip: bareclip.Clip
) -> None:
    data = making.jpeg(3, 900, 700)
    making.write_tar(tmp_path / "0.tar", [("a.jpg", data)])
    exact = embedded_exactly = clip.embed_images([data])[0]
    for decoding in ("scaled", "exact"):
        plan = shards.plan(
            tmp_path / "0.tar", tmp_path / decoding, vectors="float32", decoding=decoding
        )  # type: ignore[arg-type]
        run(plan, clip)
        exact = np.array(rows(plan)[0]["vector"], np.float32)
        assert np.array_equal(exact, embedded_exactly) == (decoding == "exact")
    assert not np.array_equal(embedded(clip, data), embedded_exactly)


def table(path: Path, count: int, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=7)
    return path


@pytest.mark.parametrize("kind", ["bytes", "struct", "path"])
def test_parquet_of_bytes_and_of_paths(tmp_path: Path, clip: bareclip.Clip, kind: str) -> None:
    data = [making.jpeg(i) for i in range(20)]
    data[4], data[11] = b"", b"hello"
    for i, one in enumerate(data):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i}.jpg").write_bytes(one)
    columns: dict[str, Any] = {"caption": [f"text {i}" for i in range(20)]}
    if kind == "bytes":
        columns |= {"jpg": [*data[:19], None], "uid": [f"u{i}" for i in range(20)]}
    elif kind == "struct":
        columns["image"] = [{"bytes": one, "path": None} for one in data[:19]] + [None]
    else:
        columns["image_path"] = [f"{i}.jpg" for i in range(19)] + ["none.jpg"]
    path = table(tmp_path / "in" / "t.parquet", 20, **columns)
    plan = shards.plan(path, tmp_path / "OUT", rows=6)
    run(plan, clip)
    found = rows(plan)
    wanted = {"bytes": "u{}", "struct": f"{path}#{{}}", "path": "{}.jpg"}[kind]
    names = [wanted.format(i) for i in range(20)]
    if kind == "path":
        names[19] = "none.jpg"
    assert [row["key"] for row in found] == names
    assert [row["offset"] for row in found] == list(range(20))
    assert [row["caption"] for row in found] == columns["caption"]
    assert [i for i, row in enumerate(found) if row["error"]] == [4, 11, 19]
    assert found[4]["error"] == "it is empty"
    assert found[19]["error"] == (
        "No such file or directory" if kind == "path" else "its row has no picture"
    )
    for i in (0, 7, 18):
        vector = np.array(found[i]["vector"], np.float16)
        assert np.array_equal(vector, embedded(clip, data[i]).astype(np.float16))
    assert shards.verify(plan).problems == ()


def test_any_reader_of_parquet_reads_a_part(
    mixed: Path, tmp_path: Path, clip: bareclip.Clip
) -> None:
    plan = shards.plan(mixed, tmp_path / "OUT")
    run(plan, clip)
    table = pq.read_table(plan.part(0).place.uri)
    assert tuple(table.schema.names) == COLUMNS
    vectors = table["vector"]
    # What pyarrow before 26 cannot read has a null here.
    assert vectors.null_count == 0
    assert [row == [None] * 20 for row in vectors.to_pylist()] == [False] * 3 + [True] * 3
    good = table.filter(table["error"].is_null())["vector"].combine_chunks()
    assert good.type == pa.list_(pa.float16(), 20)
    assert good.flatten().null_count == 0


def test_a_finished_shard_is_not_done_again(finished: Path, clip: bareclip.Clip) -> None:
    plan = shards.Plan.read(finished)
    before = {path: path.stat().st_mtime_ns for path in (finished / "parts").iterdir()}
    assert shards.unfinished(plan) == []
    assert list(shards.run(plan, clip)) == []
    assert shards.run_shard(plan, 0, clip) == plan.part(0).footer()
    assert {path: path.stat().st_mtime_ns for path in (finished / "parts").iterdir()} == before
    (finished / "parts" / "part-000003.parquet").unlink()
    [event] = shards.run(plan, clip)
    assert event.shard == 3
    assert list((finished / "attempts").iterdir()) == []


def test_a_part_has_the_same_bytes_whoever_makes_it(
    finished: Path, bundles: dict[str, Path]
) -> None:
    plan = shards.Plan.read(finished)
    path = finished / "parts" / "part-000000.parquet"
    before, footer = pq.read_table(path), plan.part(0).footer()
    path.unlink()
    again = shards.run_shard(plan, 0, bareclip.load(bundles["tiny"], threads=1))
    assert pq.read_table(path).to_pylist() == before.to_pylist()
    assert again.sha256 == footer.sha256


def test_another_model_is_refused(finished: Path, bundles: dict[str, Path]) -> None:
    plan = shards.Plan.read(finished)
    (finished / "parts" / "part-000001.parquet").unlink()
    for clip, message in (
        (bareclip.load(bundles["odd"]), "has model 'odd' where it has 'tiny'"),
        (bareclip.load(bundles["tiny"], reading="as_stored"), "has reading 'as_stored'"),
    ):
        with pytest.raises(ShardError, match=message + ".*or plan a new run"):
            list(shards.run(plan, clip))
        with pytest.raises(ShardError, match=message):
            shards.run_shard(plan, 1, clip)
    assert shards.unfinished(plan) == [1]


def test_a_source_that_has_changed_is_named_and_costs_no_other_shard(
    mixed: Path, tmp_path: Path, clip: bareclip.Clip
) -> None:
    photos = making.write_folder(tmp_path / "photos", 3)
    plan = shards.plan([mixed, photos], tmp_path / "OUT")
    with (mixed / "00000.tar").open("ab") as file:
        file.write(bytes(10_240))
    os.utime(photos / "000.jpg", (1, 1))
    (photos / "a" / "001.jpg").unlink()
    events = list(shards.run(plan, clip))
    assert [type(event) for event in events] == [shards.Refused, shards.Finished, shards.Finished]
    assert "00000.tar has changed since the plan was made" in events[0].reason  # type: ignore[union-attr]
    errors = [row["error"] for row in pq.read_table(plan.part(2).place.uri).to_pylist()]
    assert errors == ["it has changed since the plan was made", "No such file or directory", None]
    assert list((tmp_path / "OUT" / "attempts").iterdir()) == []
    (mixed / "00001.tar").unlink()
    (tmp_path / "OUT" / "parts" / "part-000001.parquet").unlink()
    assert [type(event) for event in shards.run(plan, clip)] == [shards.Refused, shards.Refused]


def test_a_cut_tar_is_a_partial_shard(mixed: Path, tmp_path: Path, clip: bareclip.Clip) -> None:
    raw = (mixed / "00001.tar").read_bytes()
    (mixed / "00001.tar").write_bytes(raw[: len(raw) // 2 + 100])
    plan = shards.plan(mixed, tmp_path / "OUT")
    run(plan, clip)
    footer = plan.part(1).footer()
    assert footer.partial
    [damage] = footer.damaged
    assert (damage.rows, footer.rows) == (footer.rows, damage.rows)
    assert 0 < damage.offset <= len(raw) // 2 + 100
    assert shards.status(plan).partial == (1,)
    report = shards.verify(plan)
    assert report.problems == ()
    assert f"cannot be read on from byte {damage.offset}" in report.notes[0].what


def test_captions_of_many_samples_are_theirs(
    tmp_path: Path, clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "_ROWS", 7)
    making.write_tar(tmp_path / "0.tar", making.samples(0, 60))
    plan = shards.plan(tmp_path / "0.tar", tmp_path / "OUT")
    run(plan, clip)
    found = rows(plan)
    assert [row["caption"] for row in found] == [f"the caption of {i}" for i in range(60)]
    assert len(found) == 60


def test_a_folder_that_cannot_be_written_ends_the_run(
    mixed: Path, tmp_path: Path, clip: bareclip.Clip
) -> None:
    plan = shards.plan(mixed, tmp_path / "OUT")
    (tmp_path / "OUT" / "parts" / "part-000000.parquet").mkdir(parents=True)
    with pytest.raises(ShardError, match="cannot write .*part-000000.parquet"):
        list(shards.run(plan, clip))


WORKER = """
import sys, bareclip
from bareclip import shards
plan = shards.Plan.read(sys.argv[1])
for event in shards.run(plan, bareclip.load(sys.argv[2], threads=2)):
    print(event.shard)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_picture_that_kills_its_process_does_so_three_times(
    tmp_path: Path, bundles: dict[str, Path], clip: bareclip.Clip
) -> None:
    deadly = making.jpeg(1, comment=killer.MARK)
    for i in range(3):
        members = [(f"{i}{k}.jpg", making.jpeg(10 * i + k)) for k in range(9)]
        if i == 1:
            members[4] = ("14.jpg", deadly)
            members[6] = ("16.jpg", deadly)
        making.write_tar(tmp_path / "in" / f"{i}.tar", members)
    plan = shards.plan(tmp_path / "in", tmp_path / "OUT")
    site = str(Path(killer.__file__).parent)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([site, *filter(None, sys.path)]),
    }
    command = [sys.executable, "-c", WORKER, str(tmp_path / "OUT"), str(bundles["tiny"])]
    codes = []
    while shards.unfinished(plan):
        done = subprocess.run(command, env=environment, timeout=120, capture_output=True)
        codes.append(done.returncode)
        assert len(codes) < 5, done.stderr
    assert codes == [-9, -9, 0]
    found = {row["key"]: row for row in rows(plan)}
    assert len(found) == 27
    failed = [key for key, row in found.items() if row["error"]]
    assert failed == ["14", "16"]
    assert found["14"]["error"] == "it killed its decoder (signal 9)"
    footer = plan.part(1).footer()
    assert footer.attempt == 3
    for key in ("10", "15", "18"):
        wanted = embedded(clip, making.jpeg(int(key))).astype(np.float16)
        assert np.array_equal(np.array(found[key]["vector"], np.float16), wanted)
    assert shards.verify(plan).problems == ()
    # Nor does either of them die again, should the shard be done once more.
    (tmp_path / "OUT" / "parts" / "part-000001.parquet").unlink()
    before = rows_of(tmp_path / "OUT")
    shards.run_shard(plan, 1, clip)
    assert [row["error"] for row in rows(plan) if row["error"]] == [
        "it killed its decoder (signal 9)"
    ] * 2
    assert rows_of(tmp_path / "OUT") == before


def rows_of(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "attempts").iterdir())


def test_a_child_is_stopped_when_a_picture_takes_too_long(clip: bareclip.Clip) -> None:
    child = isolation.Isolated(clip.images, scaled=True)
    try:
        pixels, error = child.decode(making.jpeg(0))
        assert error is None
        assert np.array_equal(
            pixels, read_pixels(making.jpeg(0), clip.images.recipe, "as_seen", scaled=True)
        )  # type: ignore[arg-type]
        assert child.decode(b"hello") == (
            None,
            "it is in no image format that Pillow reads, or it is cut short",
        )
        child._timeout = 1e-9
        with pytest.raises(isolation.DecoderDiedError, match="killed its decoder"):
            child.decode(making.jpeg(0, 3000, 3000))
        child._timeout = 60
        assert child.decode(making.jpeg(0))[1] is None
    finally:
        child.close()


_LIMITED = """
import resource, sys
from pathlib import Path
import bareclip
from bareclip.shards.isolation import Isolated

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
child = Isolated(bareclip.load(sys.argv[1]).images, scaled=True)
child.decode(b"x")
limits = Path(f"/proc/{child._child.pid}/limits").read_text()
print(*limits.partition("Max address space")[2].split()[:2])
child.close()
"""


@needs_proc
def test_a_child_keeps_to_the_limit_of_its_job(bundles: dict[str, Path]) -> None:
    command = [sys.executable, "-c", _LIMITED, str(bundles["tiny"])]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(4 << 30)] * 2


def test_attempts_are_counted_and_forgotten_when_they_end(tmp_path: Path) -> None:
    from bareclip.shards.places import Place

    out = Place.at(tmp_path)
    with attempts.attempt(out, 7) as first:
        assert (first.number, first.isolated) == (1, False)
        with attempts.attempt(out, 7) as second, attempts.attempt(out, 17) as other:
            assert (second.number, other.number) == (2, 1)
            assert attempts.begun(out) == {7: 2, 17: 1}
            with attempts.attempt(out, 7) as third:
                assert (third.number, third.isolated) == (3, True)
    with pytest.raises(KeyboardInterrupt), attempts.attempt(out, 7):
        raise KeyboardInterrupt
    assert attempts.begun(out) == {}


def test_footers_of_others_are_refused(finished: Path) -> None:
    plan = shards.Plan.read(finished)
    path = finished / "parts" / "part-000000.parquet"
    whole = pq.read_table(path)
    told = json.loads(whole.schema.metadata[b"bareclip.shard"])
    model = whole.schema.metadata[b"bareclip"]
    for metadata in (
        {},
        {b"bareclip.shard": b"{"},
        {b"bareclip.shard": b"[]", b"bareclip": model},
        {b"bareclip.shard": json.dumps(told).encode()},
        {b"bareclip.shard": json.dumps(told | {"rows": "6"}).encode(), b"bareclip": model},
        {b"bareclip.shard": json.dumps(told | {"more": 6}).encode(), b"bareclip": model},
    ):
        pq.write_table(whole.replace_schema_metadata(metadata), path)
        with pytest.raises(ShardError, match="has no footer of bareclip's"):
            plan.part(0).footer()
    newer = {b"bareclip.shard": json.dumps(told | {"format": 2}).encode(), b"bareclip": model}
    pq.write_table(whole.replace_schema_metadata(newer), path)
    with pytest.raises(ShardError, match="has format 2; this bareclip reads 1"):
        plan.part(0).footer()

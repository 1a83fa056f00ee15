"""What a plan takes for sources, how it cuts them, and what it refuses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bareclip import ShardError
from tests.machine import needs_any_name
from tests.runtime.shards.making import jpeg, samples, write_folder, write_tar

pa = pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
pq = pytest.importorskip("pyarrow.parquet")

from bareclip import shards  # noqa: E402
from bareclip.shards.tables import Columns  # noqa: E402


def planned(plan: shards.Plan) -> list[list[tuple[str, int, int | None]]]:
    """Of each shard its pieces: name, first row, and rows."""
    return [
        [(Path(piece.source).name, piece.first, piece.rows) for piece in shard.pieces]
        for shard in plan.shards()
    ]


def table(path: Path, groups: list[int], **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = sum(groups)
    made = {
        "jpg": [jpeg(i) for i in range(count)],
        "key": [f"{path.stem}-{i}" for i in range(count)],
    }
    whole, start = pa.table(made | columns), 0
    with pq.ParquetWriter(path, whole.schema) as writer:
        for size in groups:
            writer.write_table(whole.slice(start, size), row_group_size=size)
            start += size
    return path


def test_folders_are_cut_in_order_and_read_back(tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos", 8)
    (photos / "notes.txt").write_text("no picture")
    (photos / ".hidden.jpg").write_bytes(b"")
    plan = shards.plan(photos, tmp_path / "OUT", rows=3)
    names = [name for pieces in planned(plan) for name, _, _ in pieces]
    files = sorted(str(path) for path in photos.rglob("0*.jpg"))
    assert names == [Path(file).name for file in files]
    assert [len(pieces) for pieces in planned(plan)] == [3, 3, 2]
    assert plan.info.pictures == 8
    again = shards.Plan.read(tmp_path / "OUT")
    assert again == plan
    assert [again.shard(i) for i in range(3)] == list(plan.shards())


def test_a_tar_is_one_shard_whatever_lies_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "img2dataset"
    for name in ("00001", "00000"):
        write_tar(folder / f"{name}.tar", samples(int(name) * 10, 4))
        table(folder / f"{name}.parquet", [4])
        (folder / f"{name}_stats.json").write_text('{"successes": 4}')
    plan = shards.plan(folder, tmp_path / "OUT", rows=2)
    assert planned(plan) == [[("00000.tar", 0, None)], [("00001.tar", 0, None)]]
    assert plan.info.pictures is None
    several = shards.plan(folder / "*1.tar", tmp_path / "OUT2")
    assert planned(several) == [[("00001.tar", 0, None)]]


def test_parquet_is_cut_at_row_groups_or_within_large_ones(tmp_path: Path) -> None:
    path = table(tmp_path / "x.parquet", [3, 3, 3, 10, 2])
    plan = shards.plan(path, tmp_path / "OUT", rows=6)
    cuts = [pieces[0][1:] for pieces in planned(plan)]
    assert cuts == [(0, 6), (6, 3), (9, 6), (15, 6)]
    assert sum(count or 0 for _, count in cuts) == 21
    assert plan.info.columns == Columns("jpg", "key", None, None)


@pytest.mark.parametrize("seed", range(20))
def test_cuts_cover_every_row_once(seed: int) -> None:
    from bareclip.shards.cutting import _cuts

    rng = np.random.default_rng(seed)
    groups = [int(size) for size in rng.integers(0, 40, rng.integers(0, 12))]
    rows = int(rng.integers(1, 30))
    cuts = list(_cuts(groups, rows))
    covered = [row for first, count in cuts for row in range(first, first + count)]
    assert covered == list(range(sum(groups)))
    assert all(0 < count <= rows for _, count in cuts)


def test_a_plan_is_written_once(tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos", 3)
    shards.plan(photos, tmp_path / "OUT")
    before = (tmp_path / "OUT" / "run.json").read_bytes()
    with pytest.raises(ShardError, match="holds a run already, and plans are written once"):
        shards.plan(photos, tmp_path / "OUT")
    assert (tmp_path / "OUT" / "run.json").read_bytes() == before


def test_what_occurs_twice_is_refused(tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos", 4)
    with pytest.raises(ShardError, match=r"000\.jpg is among the sources twice"):
        shards.plan([photos, photos / "000.jpg"], tmp_path / "OUT")
    tar = write_tar(tmp_path / "x.tar", samples(0, 2))
    with pytest.raises(ShardError, match=r"x\.tar is among the sources twice"):
        shards.plan([tar, tmp_path / "*.tar"], tmp_path / "OUT")
    one, two = table(tmp_path / "t" / "a.parquet", [3]), tmp_path / "t" / "b.parquet"
    os.link(one, two)
    with pytest.raises(ShardError, match="key 'a-0' is among the sources twice, and 2 other keys"):
        shards.plan(tmp_path / "t", tmp_path / "OUT")
    assert not (tmp_path / "OUT").exists()


def test_what_is_no_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    for source, message in (
        ("none", "there is no .*none; give a folder"),
        ("x.txt", "neither a .tar, a .parquet nor a picture"),
        ("empty", "no pictures there"),
        ("*.tar", "nothing is named"),
        ("bad.parquet", "cannot read .*bad.parquet as Parquet"),
    ):
        with pytest.raises(ShardError, match=message):
            shards.plan(tmp_path / source, tmp_path / "OUT")
    write_folder(tmp_path / "both", 1)
    write_tar(tmp_path / "both" / "x.tar", samples(0, 1))
    with pytest.raises(ShardError, match="has both tars and pictures"):
        shards.plan(tmp_path / "both", tmp_path / "OUT")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "numbers.parquet")
    with pytest.raises(ShardError, match="no column of pictures .* it has a: give --image-column"):
        shards.plan(tmp_path / "numbers.parquet", tmp_path / "OUT")
    with pytest.raises(ShardError, match="column 'a' .* is int64; pictures are bytes"):
        shards.plan(tmp_path / "numbers.parquet", tmp_path / "OUT", image_column="a")
    with pytest.raises(ShardError, match="has no column 'b'; it has a"):
        shards.plan(tmp_path / "numbers.parquet", tmp_path / "OUT", key_column="b")
    with pytest.raises(ShardError, match="holds no run: it has no run.json; plan one with"):
        shards.Plan.read(tmp_path / "OUT")


def test_the_address_of_a_folder_is_its_path(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "my photos", 3)
    plan, same = shards.plan(folder, tmp_path / "A"), shards.plan(folder.as_uri(), tmp_path / "B")
    assert planned(same) == planned(plan)
    assert len(planned(plan)) == 1


@needs_any_name
def test_names_that_parquet_cannot_hold(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(jpeg(0))
    with pytest.raises(ShardError, match=r"caf\?\.jpg has a name that is not UTF-8"):
        shards.plan(folder, tmp_path / "OUT")


def test_a_damaged_or_newer_plan_is_refused(tmp_path: Path) -> None:
    shards.plan(write_folder(tmp_path / "photos", 3), tmp_path / "OUT")
    marker = tmp_path / "OUT" / "run.json"
    told = json.loads(marker.read_text())
    for text, message in (
        ("{", "run.json is damaged"),
        ("[]", "run.json is damaged"),
        (json.dumps(told | {"format": 2}), "has format 2; this bareclip reads 1"),
        (json.dumps(told | {"more": 1}), "run.json is damaged"),
    ):
        marker.write_text(text)
        with pytest.raises(ShardError, match=message):
            shards.Plan.read(tmp_path / "OUT")

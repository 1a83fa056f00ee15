"""Tars: WebDataset's samples, read once, and what is said where one is cut or damaged."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.shards.making import add, jpeg, samples, write_tar

pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")

from bareclip.shards.places import Place
from bareclip.shards.records import Damage, Record
from bareclip.shards.recount import _of_tar
from bareclip.shards.tars import read_tar


def read(path: Path) -> tuple[list[tuple[Record, bytes | None]], list[Damage]]:
    damaged: list[Damage] = []
    found = [
        (record, record.fetch() if record.fetch else None)
        for record in read_tar(Place.at(path), path.stat().st_size, damaged.append)
    ]
    return found, damaged


def test_samples_as_img2dataset_writes_them(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", samples(5, 3))
    found, damaged = read(path)
    assert damaged == []
    assert [record.key for record, _ in found] == ["000000005", "000000006", "000000007"]
    assert [data for _, data in found] == [jpeg(5), jpeg(6), jpeg(7)]
    assert [record.about.caption for record, _ in found] == [
        f"the caption of {i}" for i in (5, 6, 7)
    ]
    assert found[0][0].about.url == "http://example.org/5"
    raw = path.read_bytes()
    for record, data in found:
        assert data is not None
        assert record.offset is not None
        assert raw[record.offset : record.offset + len(data)] == data


def test_names_by_webdatasets_rule(tmp_path: Path) -> None:
    members = [
        ("a/b.v1/x.left.jpg", b"1"), ("a/b.v1/x.right.JPG", b"2"), ("a/b.v1/x.txt", b" both \n"),
        ("._x.jpg", b"3"), (".jpg", b"4"), ("noending", b"5"), ("y.cls", b"6"), ("y.png", b"7"),
        ("z.json", b"{"), ("z.webp", b"8"),
    ]  # fmt: skip
    path = write_tar(tmp_path / "0.tar", members)
    found, damaged = read(path)
    keys = [record.key for record, _ in found]
    assert keys == ["a/b.v1/x", "a/b.v1/x.right.JPG", "y", "z"]
    assert [record.about.caption for record, _ in found] == ["both", "both", None, None]
    assert damaged == []
    assert list(_of_tar(Place.at(path))) == keys


def test_members_that_are_no_files(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a.jpg", b"1")
        for name, kind in (("b.jpg", tarfile.SYMTYPE), ("c.jpg", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.jpg"
            archive.addfile(member)
        folder = tarfile.TarInfo("d.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        add(archive, "e" * 150 + "/caf\udce9.jpg", b"2")
    found, damaged = read(path)
    assert [record.key for record, _ in found] == ["a", "b", "c", "e" * 150 + "/caf\\xe9"]
    assert [record.error for record, _ in found] == [
        None, "it is no regular file within its tar", "it is no regular file within its tar", None
    ]  # fmt: skip
    assert damaged == []
    assert list(_of_tar(Place.at(path))) == [record.key for record, _ in found]


@pytest.mark.parametrize("seed", range(60))
def test_a_tar_that_is_cut_says_where(tmp_path: Path, seed: int) -> None:
    path = write_tar(tmp_path / "0.tar", samples(0, 6))
    whole, _ = read(path)
    raw = path.read_bytes()
    end = len(raw.rstrip(b"\0"))
    cut = int(np.random.default_rng(seed).integers(0, end))
    path.write_bytes(raw[:cut])
    found, [damage] = read(path)
    assert damage.offset <= cut
    assert damage.rows == len(found)
    for (record, data), (wanted, wanted_data) in zip(found, whole, strict=False):
        assert record.key == wanted.key
        if wanted.offset is not None and wanted_data is not None:
            if wanted.offset + len(wanted_data) <= cut:
                assert data == wanted_data
            else:
                assert record.error == "it is cut short: its tar ends within it"
    # Whatever has a whole header is a row.
    headers = [record.offset for record, _ in whole]
    assert len(found) == sum(offset is not None and offset <= cut for offset in headers)
    assert list(_of_tar(Place.at(path))) == [record.key for record, _ in found]


@pytest.mark.parametrize("seed", range(30))
def test_damage_in_the_middle_is_no_end(tmp_path: Path, seed: int) -> None:
    path = write_tar(tmp_path / "0.tar", samples(0, 6))
    whole, _ = read(path)
    raw = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    hit = whole[int(rng.integers(1, 6))][0].offset
    assert hit is not None
    raw[hit - 512 : hit] = rng.bytes(512)
    path.write_bytes(raw)
    found, [damage] = read(path)
    assert damage.offset == hit - 512
    assert "header" in damage.reason
    assert [record.key for record, _ in found] == [
        record.key for record, _ in whole if (record.offset or 0) < hit
    ]


def test_what_follows_the_end_is_said(tmp_path: Path) -> None:
    one, two = (write_tar(tmp_path / f"{i}.tar", samples(i * 10, 2)) for i in (0, 1))
    one.write_bytes(one.read_bytes() + two.read_bytes())
    found, [damage] = read(one)
    assert len(found) == 2
    assert damage.reason == "more data follows its end marker"


def test_what_is_no_tar(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    for data in (b"", b"hello", b"\x1f\x8b" * 600, np.random.default_rng(0).bytes(5000)):
        path.write_bytes(data)
        found, [damage] = read(path)
        assert found == []
        assert (damage.offset, damage.rows) == (0, 0)
    path.write_bytes(bytes(10_240))  # an empty one, as tar makes it
    assert read(path) == ([], [])


def test_a_file_that_is_fetched_in_pieces_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bareclip.shards import tars

    path = write_tar(tmp_path / "0.tar", samples(0, 5))
    wanted, _ = read(path)
    monkeypatch.setattr(tars, "_PIECE", 777)
    monkeypatch.setattr(Place, "local", property(lambda place: False))
    monkeypatch.setattr(Place, "open", lambda place: __import__("pyarrow").OSFile(place.uri))
    found, damaged = read(path)
    assert [(record.key, record.offset, data) for record, data in found] == [
        (record.key, record.offset, data) for record, data in wanted
    ]
    assert damaged == []

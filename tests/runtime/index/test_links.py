"""A folder that a link leads to is the folder: its photos are gone, kept and found as such."""

import os
from pathlib import Path

import pytest

import bareclip
from bareclip import StoreError
from bareclip.index import scan as scan_module
from tests.variants import picture

from .conftest import names


@pytest.fixture
def link(photos: Path) -> Path:
    """Another name of the folder of photos."""
    other = photos.with_name("link")
    other.symlink_to(photos, target_is_directory=True)
    return other


@pytest.mark.parametrize("turn", [1, -1])
def test_what_vanished_is_removed_by_either_name(
    index: bareclip.Index, photos: Path, link: Path, turn: int
) -> None:
    first, second = (photos, link)[::turn]
    assert index.sync(first).added == 12
    (photos / "00.jpg").unlink()
    (photos / "03.jpg").rename(photos / "a" / "three.jpg")
    report = index.sync(second)
    assert (report.removed, report.renamed, report.unchanged) == (1, 1, 10)
    assert len(names(index)) == 11
    # What it has by either name by now, it still knows.
    (photos / "a" / "three.jpg").unlink()
    (photos / "06.jpg").unlink()
    assert index.sync(first).removed == 2


def test_a_missing_or_empty_folder_loses_nothing_by_its_other_name(
    index: bareclip.Index, photos: Path, link: Path
) -> None:
    index.sync(photos)
    photos.rename(photos.with_name("away"))
    with pytest.raises(StoreError, match="No such file or directory; to remove the 12 files"):
        index.sync(link)
    photos.mkdir()
    with pytest.raises(StoreError, match=r"is empty; is its disk mounted\?.*--prune"):
        index.sync(link)
    assert index.sync(link, prune=True).removed == 12


def test_an_unreadable_folder_keeps_photos_found_by_the_other_name(
    index: bareclip.Index, photos: Path, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.sync(photos)
    inner = scan_module.os.scandir

    def scandir(path: bytes | str) -> object:
        if os.fsencode(path).endswith(b"/a"):
            raise PermissionError(13, "Permission denied", path)
        return inner(path)

    monkeypatch.setattr(scan_module.os, "scandir", scandir)
    report = index.sync(link)
    assert (report.removed, report.kept, len(names(index))) == (0, 8, 12)


def test_links_in_the_folder_lead_out_of_it(
    index: bareclip.Index, photos: Path, link: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    picture(70, 40, seed=70).save(outside / "70.jpg")
    (photos / "out").symlink_to(outside, target_is_directory=True)
    assert index.sync(photos).added == 13
    assert index.sync(link).removed == 0
    assert index.search("a cat", k=20, under=link / "out")[0].item == str(photos / "out/70.jpg")
    (photos / "out").unlink()
    assert index.sync(link).removed == 1


@pytest.mark.parametrize("turn", [1, -1])
def test_under_either_name(
    index: bareclip.Index,
    photos: Path,
    link: Path,
    turn: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (photos, link)[::turn]
    beside = photos.with_name("photos 2")
    beside.mkdir()
    picture(70, 40, seed=70).save(beside / "70.jpg")
    index.sync(first)
    index.sync(beside)
    monkeypatch.chdir(photos.parent)
    for below, count in (("", 12), ("/", 12), ("/a", 8), ("/a/b/", 4), ("/0", 4)):
        wanted = index.search("a cat", k=20, under=f"{first}{below}")
        wanted = [hit for hit in wanted if not hit.item.startswith(str(beside))]
        assert len(wanted) == count
        for under in (f"{second}{below}", f"{second.name}{below}"):
            found = index.search("a cat", k=20, under=under)
            assert [hit for hit in found if not hit.item.startswith(str(beside))] == wanted
    # The start of a name is that of others too; what a link leads to is one folder.
    assert len(index.search("a cat", k=20, under=photos)) == 13
    assert len(index.search("a cat", k=20, under=link)) == 12

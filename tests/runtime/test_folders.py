"""Pictures of folders: which are taken, and which are left out by name, by every verb alike."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.images.folders import image_files, is_excluded, list_images
from tests.runtime.test_cli import complaint, run
from tests.variants import picture

TAKEN = ["a.png", "b/d.PNG", "b/raw/c.jpg", "e.tif"]
HIDDEN = ["._a.png", ".thumbnails/x.png", "@eaDir/a.png/y.jpg", "b/.hidden.jpg", "b/@eaDir/z.png"]
# Of no ending that a picture has, so that nobody misses them.
NO_PICTURES = [".DS_Store", "notes.txt", ".nomedia"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Hidden itself, which is its user's business."""
    root = tmp_path / ".photos"
    for number, name in enumerate(TAKEN + HIDDEN):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(30, 20, seed=number).save(root / name)
    for name in NO_PICTURES:
        (root / name).write_bytes(b"x")
    return root


@pytest.fixture
def bundle(bundles: dict[str, Path]) -> str:
    return str(bundles["tiny"])


@pytest.mark.parametrize(
    ("exclude", "taken", "left_out"),
    [
        ([], TAKEN + HIDDEN, 0),
        ([".*", "@eaDir"], TAKEN, 5),
        (["*.png"], ["b/.hidden.jpg", *TAKEN[1:]], 5),  # a folder among them
        (["raw", ".*", "@eaDir"], ["a.png", "b/d.PNG", "e.tif"], 6),
        (["b/raw", ".*", "@eaDir"], ["a.png", "b/d.PNG", "e.tif"], 6),
        (["raw/c.jpg", "/b", "b/", "A.png", "a"], TAKEN + HIDDEN, 0),
        (["*/*", ".*", "@eaDir"], ["a.png", "e.tif"], 7),
        (["?.png", "[b-d]"], ["._a.png", "e.tif"], 4),
        (["*"], [], 6),
    ],
)
def test_patterns_are_those_of_a_shell_on_names_and_paths(
    folder: Path, exclude: list[str], taken: list[str], left_out: int
) -> None:
    found = list_images(folder, exclude)
    assert [str(path.relative_to(folder)) for path in found.files] == [
        str(path) for path in sorted(map(Path, taken))
    ]
    assert found.left_out == left_out


def test_without_patterns_what_is_hidden_is_left_out(folder: Path) -> None:
    assert image_files(folder) == sorted(folder / name for name in TAKEN)


def test_a_pattern_is_asked_about_names_and_not_about_parts_of_them() -> None:
    for path, patterns, wanted in (
        ("a/.b/c", (".*",), False),  # the folder .b is, and is not entered
        ("a/.b", (".*",), True),
        ("a.b", (".*",), False),
        ("a/b", ("a*b",), True),
        ("b", (), False),
        ("b", ("",), False),
        ("a\nb", ("a*b",), True),
        ("a]b", ("a[]]b",), True),
        ("caf\udce9", ("caf?",), True),
        ("(x|y)", ("(x|y)",), True),
        ("x", ("(x|y)",), False),
    ):
        assert is_excluded(path, patterns) == wanted, (path, patterns)


def test_every_verb_takes_the_same_and_says_what_it_left_out(
    folder: Path, bundle: str, tmp_path: Path
) -> None:
    db, output = tmp_path / "photos.db", tmp_path / "x.npz"
    options = ["--bundle", bundle]
    said = "left out: 5 pictures and folders named .*, @eaDir (see --exclude and --hidden)\n"
    found = run("embed", folder, "-o", output, *options)
    assert found.stderr == said
    with np.load(output) as archive:
        assert archive["names"].tolist() == [str(folder / name) for name in TAKEN]
    classify = ["classify", folder, "--labels", "a,b", "--json", *options]
    found = run(*classify)
    assert (len(json.loads(found.stdout)), found.stderr) == (4, said)
    found = run("similarity", folder, "a cat", "--json", *options)
    assert (len(json.loads(found.stdout)), found.stderr) == (4, said)
    found = run("index", folder, "--db", db, *options)
    assert (found.stdout, found.stderr) == ("4 added, 0 unchanged\n", said)
    # A tree of classes: "b" and "b/raw" hold the same picture's labels.
    (folder / "f").mkdir()
    picture(20, 20, seed=50).save(folder / "f" / "x.png")
    found = run("evaluate", bundle, folder, "--json")
    report = json.loads(found.stdout)
    assert (report["images"], report["classes"], report["left_out"]) == (3, 2, 4)
    assert "left out: 4 pictures and folders named .*, @eaDir" in found.stderr

    without = ["--exclude", "*.PNG", "--exclude", "b/raw"]
    found = run(*classify, *without)
    assert [Path(line["image"]).name for line in json.loads(found.stdout)] == [
        "a.png", "e.tif", "x.png",
    ]  # fmt: skip
    assert "left out: 7 pictures and folders named .*, @eaDir, *.PNG, b/raw" in found.stderr
    found = run(*classify, "--hidden")
    assert (len(json.loads(found.stdout)), found.stderr) == (len(TAKEN + HIDDEN) + 1, "")
    found = run("evaluate", bundle, folder, "--exclude", "b/raw", "--json")
    assert json.loads(found.stdout)["images"] == 2
    # What is named itself is taken.
    for named in (folder / "._a.png", folder / ".thumbnails", folder / "@eaDir"):
        found = run("classify", named, "--labels", "a,b", "--json", *options)
        assert (len(json.loads(found.stdout)), found.stderr) == (1, "")
    message = complaint("classify", folder, "--labels", "a,b", "--exclude", "*", *options)
    assert "holds no image files, besides 7 left out by name" in message


def test_an_index_forgets_what_is_excluded_and_takes_it_again(
    folder: Path, bundle: str, tmp_path: Path
) -> None:
    for name in NO_PICTURES:  # an index counts them too
        (folder / name).unlink()
    index = ["index", folder, "--db", tmp_path / "photos.db", "--bundle", bundle]
    assert run(*index, "--hidden").stdout == "9 added, 0 unchanged\n"
    assert run(*index).stdout == "0 added, 5 removed, 4 unchanged\n"
    assert run(*index, "--exclude", "b/raw").stdout == "0 added, 1 removed, 3 unchanged\n"
    assert run(*index, "--exclude", "b").stdout == "0 added, 1 removed, 2 unchanged\n"
    assert run(*index).stdout == "2 added, 2 unchanged\n"
    # All of it, by the user's word: that is no disk which is away.
    assert run(*index, "--exclude", "*").stdout == "0 added, 4 removed, 0 unchanged\n"
    assert run(*index).stdout == "4 added, 0 unchanged\n"
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            path.unlink()
    # Unlike a folder where nothing but hidden files is left.
    assert "is empty; is its disk mounted?" in complaint(*index)


def test_the_api_leaves_out_what_the_command_does(folder: Path, clip: bareclip.Clip) -> None:
    with bareclip.Index.open(folder.parent / "photos.db", clip) as index:
        report = index.sync(folder)
        assert (report.added, report.left_out) == (4, 5)
        report = index.sync(folder, exclude=())
        assert (report.added, report.left_out) == (5, 0)
        report = index.sync(folder, exclude=(name for name in ("*.png", "*.jpg")))
        assert (report.removed, report.left_out) == (7, 7)


def test_folders_of_one_inode_number_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for year in ("2023", "2024"):
        (tmp_path / year).mkdir()
        picture(9, 9).save(tmp_path / year / "x.png")
    real = os.stat

    def colliding(path: Any, **options: Any) -> os.stat_result:
        found = list(real(path, **options))
        found[1] = 4711  # st_ino, as union file systems give it
        return os.stat_result(found)

    monkeypatch.setattr(os, "stat", colliding)
    assert len(image_files(tmp_path)) == 2

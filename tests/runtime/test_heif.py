"""HEIC pictures: named with the extra where pillow-heif is missing, read where it is there.

A module of that name stands for it, which registers an opener with Pillow as it does; where the
real one is installed, a picture that it writes itself is read.
"""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip.images.heif import EXTRA, is_heif
from tests.runtime.test_cli import run
from tests.variants import picture

# A box of type ftyp: its size, the major brand, a version, compatible brands.
HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"

# Pictures after such a box are PNGs here.
SUBSTITUTE = """
import io
from PIL import Image

def _accept(prefix):
    return prefix[4:12] == b"ftypheic"

def _open(file, name):
    file.seek(24)
    image = Image.open(io.BytesIO(file.read()))
    image.load()
    return image

def register_heif_opener():
    Image.register_open("HEIF", _open, _accept)
    Image.register_extensions("HEIF", [".heic", ".heif"])
"""


@pytest.fixture
def bundle(bundles: dict[str, Path]) -> str:
    return str(bundles["tiny"])


@pytest.fixture
def missing(tmp_path: Path) -> dict[str, str]:
    """An environment without pillow-heif, whether or not it is installed here."""
    folder = tmp_path / "missing"
    folder.mkdir()
    (folder / "pillow_heif.py").write_text("raise ModuleNotFoundError('no pillow_heif')")
    return _path_with(folder)


@pytest.fixture
def there(tmp_path: Path) -> dict[str, str]:
    """One with a substitute for it."""
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "pillow_heif.py").write_text(SUBSTITUTE)
    return _path_with(folder)


def _path_with(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": ":".join([str(folder), *filter(None, sys.path)])}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(["IMG_1.HEIC", "IMG_2.heif", "IMG_3.hif", "sent.jpg"]):
        file = io.BytesIO()
        picture(40, 30, seed=number).save(file, "PNG")
        (folder / name).write_bytes(HEAD + file.getvalue())
    return folder


def test_each_is_named_with_the_extra(
    photos: Path, bundle: str, tmp_path: Path, missing: dict[str, str]
) -> None:
    picture(30, 20).save(photos / "whole.png")
    options = ["--bundle", bundle]
    captions = tmp_path / "captions.jsonl"
    lines = [json.dumps({"image": str(path), "captions": ["x"]}) for path in photos.iterdir()]
    captions.write_text("\n".join(lines))
    (photos / "class").mkdir()
    picture(30, 20).save(photos / "class" / "x.png")
    for arguments in (
        ["embed", photos, "-o", tmp_path / "x.npz", *options],
        ["classify", photos, "--labels", "a,b", *options],
        ["similarity", photos, "a cat", *options],
        ["evaluate", bundle, captions],
    ):
        found = run(*arguments, code=1, **missing)
        named = [line for line in found.stderr.splitlines() if EXTRA in line]
        assert [Path(line.partition(": it is a HEIC")[0]).name for line in sorted(named)] == [
            "IMG_1.HEIC", "IMG_2.heif", "IMG_3.hif", "sent.jpg",
        ]  # fmt: skip
        assert "4 of " in found.stderr.splitlines()[-1]
    alone = run("classify", photos / "sent.jpg", "--labels", "a,b", *options, code=1, **missing)
    assert alone.stderr.count("\n") == 1
    assert f"pip install '{EXTRA}'" in alone.stderr


def test_an_index_names_them_each_time_until_the_extra_is_there(
    photos: Path, bundle: str, tmp_path: Path, missing: dict[str, str], there: dict[str, str]
) -> None:
    db = tmp_path / "photos.db"
    (photos / "IMG_3.hif").rename(photos / "by its content")
    (photos / "empty.heic").write_bytes(b"")
    (photos / "torn.heic").write_bytes(HEAD + b"no picture")
    index = ["index", photos, "--db", db, "--bundle", bundle]
    for _ in range(2):
        found = run(*index, **missing).stdout.splitlines()
        assert found[-1] == (
            "5 are HEIC pictures: pip install 'bareclip[heif]', and run this again"
        )
    failed = json.loads(run("index-status", db, "--json").stdout)["failures"]
    assert sorted(Path(f["path"]).name for f in failed if EXTRA in f["reason"]) == [
        "IMG_1.HEIC", "IMG_2.heif", "by its content", "sent.jpg", "torn.heic",
    ]  # fmt: skip
    found = run(*index, **there).stdout.splitlines()
    assert found[0] == "0 added, 4 changed, 1 unchanged"
    assert "HEIC" not in "".join(found)
    # What is broken is broken, and is not looked into again.
    assert run(*index, **there).stdout == "0 added, 6 unchanged\n"
    run("search", db, "--image", photos / "IMG_1.HEIC", **there)


def test_with_the_extra_they_are_pictures_as_others(
    photos: Path, bundle: str, tmp_path: Path, there: dict[str, str]
) -> None:
    output = tmp_path / "x.npz"
    assert run("embed", photos, "-o", output, "--bundle", bundle, **there).stderr == ""
    whole = [picture(40, 30, seed=number) for number in range(4)]
    with np.load(output) as archive:
        assert len(archive["names"]) == 4
        wanted = bareclip.load(bundle).embed_images(whole)
        np.testing.assert_allclose(archive["vectors"], wanted, atol=1e-6)


def test_the_extra_is_not_loaded_for_other_pictures(
    photos: Path, tmp_path: Path, there: dict[str, str]
) -> None:
    picture(30, 20).save(tmp_path / "x.png")
    code = (
        "import sys, bareclip\n"
        "bareclip.load().embed_images(sys.argv[1:])\n"
        "print('pillow_heif' in sys.modules)"
    )
    for path, wanted in ((tmp_path / "x.png", "False"), (photos / "sent.jpg", "True")):
        command = [sys.executable, "-c", code, str(path)]
        found = subprocess.run(command, capture_output=True, text=True, check=True, env=there)
        assert found.stdout.strip() == wanted


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (HEAD, True),
        (b"\0\0\0\x14ftypheix\0\0\0\0mif1", True),
        (b"\0\0\0\x10ftypheic\0\0\0\0", True),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafheic", True),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0iso8hevc", True),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafavif", False),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1heic", False),
        (b"\0\0\0\x10ftypmif1\0\0\0\0heic", False),  # after the box
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", False),  # a film
        (b"\0\0\0\x18ftyphei", False),
        (b"ftypheic", False),
        (b"", False),
    ],
)
def test_the_first_bytes_say_what_is_heic(head: bytes, wanted: bool) -> None:
    assert is_heif(io.BytesIO(head)) == wanted
    assert is_heif(io.BytesIO(head + b"heic" * 100)) == wanted


def test_the_real_one_where_it_is_installed(clip: bareclip.Clip, tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs bareclip[heif]")
    pillow_heif.register_heif_opener()
    shown = picture(320, 240)
    shown.save(tmp_path / "x.heic", quality=95)
    vectors = clip.embed_images([tmp_path / "x.heic", (tmp_path / "x.heic").read_bytes(), shown])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert vectors[0] @ vectors[2] > 0.99

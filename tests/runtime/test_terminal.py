"""What reaches a terminal: no control of it, nothing its encoding has not, the whole answer."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from bareclip.cli.output import complain
from tests.machine import needs_any_name, needs_posix
from tests.runtime.test_cli import run
from tests.variants import picture

# Sets the title, clears the screen, turns text around, reports back, rings, overwrites; C0, C1.
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b6n\u202e\x08\x7f\u2028\r"
# What Persian, families, French and screenshots of macOS are written with.
GOOD = "می‌خواهم 👨‍👩‍👧 «oui\u202f?» 3.00\u202fPM 猫"


def harmless(found: subprocess.CompletedProcess[str], *, shows: str = "") -> None:
    text = found.stdout + found.stderr
    assert not {c for c in EVIL if not c.isprintable()} & set(text)
    assert "Traceback" not in text
    assert shows in text


@pytest.fixture
def bundle(bundles: dict[str, Path]) -> str:
    return str(bundles["tiny"])


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A folder of such a name with a good picture and a bad one, in a class of its own."""
    folder = tmp_path / f"photos {EVIL}" / f"class {EVIL}"
    folder.mkdir(parents=True)
    picture(30, 20).save(folder / f"good{EVIL}.png")
    (folder / f"bad{EVIL}.png").write_bytes(b"x")
    (folder.parent / "other").mkdir()
    picture(30, 20, seed=1).save(folder.parent / "other" / "x.png")
    return folder.parent


@pytest.fixture
def evil_bundle(bundle: str, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(bundle, tmp_path / "evil bundle"))
    manifest = copy / "bundle.json"
    data = json.loads(manifest.read_text())
    data["name"] += EVIL
    data["source"] |= {"checkpoint": EVIL + "\ud800", "license": EVIL, "architecture": EVIL}
    manifest.write_text(json.dumps(data))
    return copy


@needs_posix
def test_of_names_of_files_and_labels(evil: Path, bundle: str, tmp_path: Path) -> None:
    labels = tmp_path / f"labels{EVIL}.txt"
    labels.write_text(f"cat{EVIL}\ncat{EVIL}\ndog", "utf-8")
    options = ["--bundle", bundle]
    for verb in (
        ["classify", evil, "--labels", labels],
        ["classify", evil, "--labels", f"a{EVIL},b"],
        ["similarity", evil, f"a cat{EVIL}"],
        ["embed", evil, "-o", tmp_path / f"x{EVIL}.npz"],
        ["embed", evil, "-o", tmp_path / f"x{EVIL}.npz", "--on-error", "raise"],
    ):
        harmless(run(*verb, *options, code=1), shows="cannot read image")
    harmless(run("evaluate", bundle, evil, code=1), shows="bad")
    lines = [json.dumps({"image": str(path), "captions": ["x"]}) for path in evil.rglob("*.png")]
    captions = tmp_path / f"captions{EVIL}.jsonl"
    captions.write_text("\n".join(lines))
    harmless(run("evaluate", bundle, captions, code=1), shows="bad")
    captions.write_text("x")
    harmless(run("evaluate", bundle, captions, code=1), shows="line 1 of")
    for labels_file in (f"{EVIL}.txt", f"none/{EVIL}"):
        harmless(run("classify", evil, "--labels", labels_file, *options, code=1), shows="no file")
    for templates in (f"{EVIL}", f"{EVIL} {{}} {{}}"):
        found = run("classify", evil, "--labels", "a,b", "--templates", templates, code=1)
        harmless(found, shows="template")
    harmless(run("verify", bundle, evil))
    (tmp_path / f"empty{EVIL}").mkdir()
    harmless(run("embed", tmp_path / f"empty{EVIL}", "-o", "x.npz", code=1), shows="holds no")


@needs_posix
def test_of_indexes(evil: Path, bundle: str, tmp_path: Path) -> None:
    db = tmp_path / f"photos{EVIL}.db"
    harmless(run("index", evil, "--db", db, "--bundle", bundle), shows="1 failed; see: ")
    harmless(run("search", db, f"a{EVIL}", "another", "-k", "9"), shows="good")
    harmless(run("search", db, "--image", evil / "none", code=1), shows="none")
    harmless(run("index-status", db), shows="bad")
    vectors = tmp_path / f"v{EVIL}.npy"
    harmless(run("index-export", db, vectors), shows="2 vectors written")
    harmless(run("index-import", db, vectors), shows="2 vectors added")
    for option in ("--status", "--export"):
        harmless(run("index", option, EVIL, code=2), shows="took the place of")
    with sqlite3.connect(db) as connection:  # as its maker, who is somebody else, wrote it
        connection.execute("UPDATE items SET reason = ? WHERE reason IS NOT NULL", (EVIL * 3,))
        connection.execute(
            "UPDATE meta SET value = ? WHERE name = 'bundle'", (f"/no{EVIL}".encode(),)
        )
    connection.close()
    harmless(run("index-status", db), shows="bad")
    harmless(run("search", db, "a cat", code=1), shows="/no")


@needs_posix
def test_of_bundles_and_command_lines(evil_bundle: Path, evil: Path, tmp_path: Path) -> None:
    for verb in ("info", "verify"):
        harmless(run(verb, evil_bundle))
        harmless(run(verb, evil, code=1), shows="is not a bundle")
    image = evil_bundle.parent / "x.png"
    picture(30, 20).save(image)
    harmless(run("-v", "similarity", image, "a cat", "--bundle", evil_bundle), shows="loaded the")
    db = tmp_path / "photos.db"
    harmless(run("index", evil, "--db", db, "--bundle", evil_bundle))
    harmless(run("index-status", db), shows="tiny")
    for arguments in (
        [EVIL], ["info", "a", EVIL], [f"--{EVIL}"], ["classify", image, f"--labels{EVIL}", "x"],
        ["search", db, "x", "-k", EVIL], ["embed", image, "-o", "x.npz", "--on-error", EVIL],
        ["verify", evil_bundle, EVIL],
    ):  # fmt: skip
        harmless(run(*arguments, code=2), shows="--help")
    for arguments in (
        ["similarity", image, "x", "--precision", EVIL],
        ["similarity", image, "x", "--precision", f"vision={EVIL}"],
        ["similarity", image, "x", "--device", EVIL],
        ["export", evil, "-o", tmp_path / "new"],
        ["export", EVIL, "-o", tmp_path / "new"],
        ["quantize", evil, "--precision", "int8"],
        ["quantize", evil_bundle, "--precision", EVIL],
    ):
        harmless(run(*arguments, code=1))


def test_of_what_nobody_thought_of(bundle: str, tmp_path: Path) -> None:
    """A fault of ours is a traceback, other libraries warn and log: none as it is."""
    code = (
        "import logging, sys, warnings, bareclip.cli.main as m\n"
        "@m.commands.command()\n"
        "def odd():\n"
        "    warnings.warn('first ' + sys.argv[2])\n"
        "    logging.getLogger('library').warning('second %s', sys.argv[2])\n"
        "    logging.getLogger('library').info('nobody asks')\n"
        "    raise KeyError('third') from ValueError(sys.argv[2])\n"
        "m.main()"
    )
    code = code.replace("sys.argv[2]", ascii(EVIL))
    command = [sys.executable, "-c", code, "odd"]
    found = subprocess.run(command, capture_output=True, check=False)
    said = found.stderr.decode()
    assert not {c for c in EVIL if not c.isprintable()} & set(said)
    for word in ("first", "second", "KeyError: 'third'", "ValueError: "):
        assert word in said
    assert "nobody asks" not in said
    assert found.returncode == 1


@needs_any_name
def test_random_names(bundle: str, tmp_path: Path) -> None:
    """Every kind of character, in names of files, labels and texts, as seeded."""
    rng = random.Random(13)
    folder = tmp_path / "photos"
    folder.mkdir()
    names = []
    while len(names) < 60:
        letters = [rng.choice([rng.randrange(1, 0x300), rng.randrange(0x2000, 0x2100),
                   rng.randrange(0xDC80, 0xDD00), rng.randrange(0xE0000, 0xE0080)])
                   for _ in range(8)]  # fmt: skip
        name = "".join(map(chr, letters)).replace("/", "").strip(".") + ".png"
        try:
            picture(20, 20).save(folder / name)
        except (OSError, ValueError):  # too long, or nothing that a file system takes
            continue
        names.append(os.fsdecode(os.fsencode(name)))
    found = run("classify", folder, "--labels", "a,b", "--top", "1", "--bundle", bundle)
    lines = found.stdout.split("\n")
    assert len(lines) == 2 + len(set(names)) + 1
    for line in lines:
        for character in line:
            kind = unicodedata.category(character)
            assert kind not in {"Cc", "Cf", "Cs", "Zl", "Zp"} or character in "\u200c\u200d"
    listed = json.loads(
        run("classify", folder, "--labels", "a,b", "--json", "--bundle", bundle).stdout
    )
    assert sorted(Path(line["image"]).name for line in listed) == sorted(set(names))


def test_what_people_write_is_shown_as_it_is(bundle: str, tmp_path: Path) -> None:
    image = tmp_path / f"{GOOD}.png"
    picture(30, 20).save(image)
    for arguments in (
        ["similarity", image, GOOD], ["classify", image, "--labels", f"{GOOD},x"],
    ):  # fmt: skip
        found = run(*arguments, "--bundle", bundle, PYTHONIOENCODING="utf-8")
        assert GOOD in found.stdout


@needs_any_name
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "cp437", "utf-8", "utf-16-le"])
def test_what_an_encoding_has_not_is_replaced(bundle: str, tmp_path: Path, encoding: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    picture(30, 20).save(photos / "é 猫.png")
    picture(30, 20, seed=1).save(os.fsdecode(os.fsencode(photos) + b"/not utf-8 \xe9\xff.png"))
    (photos / "猫 bad.png").write_bytes(b"x")
    db, labels = tmp_path / "猫.db", tmp_path / "labels.txt"
    labels.write_text("é\n猫\n", "utf-8")

    def printed(*arguments: str | Path, code: int = 0) -> str:
        command = [sys.executable, "-m", "bareclip", *map(str, arguments)]
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=120,
            check=False,
            env=os.environ | {"PYTHONIOENCODING": encoding},
        )
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
        done.stderr.decode(encoding)
        return done.stdout.decode(encoding)

    shown = "é 猫.png".encode(encoding, "replace").decode(encoding)
    bundle_option = ["--bundle", bundle]
    printed("index", photos, "--db", db, *bundle_option)
    assert shown in printed("search", db, "猫")
    printed("index-status", db)
    assert "猫 bad" not in shown
    for arguments in (
        ["classify", photos, "--labels", labels],
        ["similarity", photos, "猫"],
    ):
        assert shown in printed(*arguments, *bundle_option, code=1)
        told = json.loads(printed(*arguments, *bundle_option, "--json", code=1))
        assert any(line["image"].endswith("é 猫.png") for line in told)
    printed("embed", photos, "-o", tmp_path / "猫.npz", *bundle_option, code=1)
    printed("evaluate", bundle, photos, code=1)
    printed("猫", code=2)
    printed("info", tmp_path / "猫", code=1)


@needs_posix
def test_a_locale_without_utf8(bundle: str, tmp_path: Path) -> None:
    """Arguments come as surrogates there; names of files stay so, texts are what was typed."""
    picture(30, 20).save(tmp_path / "猫.png")
    c = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = [tmp_path / "猫.png", "ünder 猫", "--json", "--bundle", bundle]
    found = json.loads(run("similarity", *arguments, **c).stdout)
    assert [line["text"] for line in found] == ["ünder 猫"]
    wanted = json.loads(run("similarity", *arguments).stdout)
    assert found[0]["similarity"] == wanted[0]["similarity"]
    assert os.fsencode(found[0]["image"]) == os.fsencode(tmp_path / "猫.png")
    labels = ["--labels", "ünder,猫", "--bundle", bundle]
    told = json.loads(run("classify", tmp_path, *labels, "--json", **c).stdout)
    assert {p["label"] for p in told[0]["predictions"]} == {"ünder", "猫"}
    assert "?nder" in run("classify", tmp_path, *labels, **c).stdout


@pytest.mark.skipif(os.name == "nt", reason="POSIX's numbers of files")
@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)])
def test_streams_that_are_closed(bundle: str, tmp_path: Path, closed: tuple[int, ...]) -> None:
    """Whatever would be printed goes nowhere: not into a file that is opened as number 2."""
    photos, db = tmp_path / "photos", tmp_path / "photos.db"
    photos.mkdir()
    picture(30, 20).save(photos / "x.png")
    (photos / "bad.png").write_bytes(b"x")
    code = (
        "import os, sys\n"
        f"for number in {closed}: os.close(number)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'bareclip', *sys.argv[1:]])"
    )
    command = [sys.executable, "-c", code]
    output, options = tmp_path / "x.npz", ["--bundle", bundle]
    for arguments, wanted in (
        (["index", photos, "--db", db, *options], 0),
        (["embed", photos, "-o", output, *options], 1),
        (["search", db, "a cat"], 0),
        (["clasify"], 2),
    ):
        done = subprocess.run([*command, *map(str, arguments)], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (wanted, b"")
    with np.load(output) as archive:
        assert archive["names"].tolist() == [str(photos / "x.png")]
    assert "photos         1\n" in run("index-status", db).stdout


def test_a_long_complaint_keeps_its_beginning_and_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    complain("what went wrong: " + "x" * 100_000 + "\n\nwhat to do next")
    said = capsys.readouterr().err
    assert said.startswith("bareclip: what went wrong: xxx")
    assert said.endswith("xxx what to do next\n")
    assert len(said) < 2000
    assert said.count("\n") == 1


def test_verbose_says_what_is_loaded(bundle: str, tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    picture(30, 20).save(image)
    quiet = run("similarity", image, "a cat", "--bundle", bundle)
    told = run("-v", "similarity", image, "a cat", "--bundle", bundle, "--threads", "1")
    assert quiet.stderr == ""
    assert told.stdout == quiet.stdout
    for tower in ("vision", "text"):
        assert (
            f"bareclip: loaded the {tower} tower of tiny at fp32 on cpu, 1 threads, from "
            f"{bundle}/fp32/{tower}.onnx\n"
        ) in told.stderr
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat")
    one = ["embed", "--texts", texts, "-o", tmp_path / "x.npz", "--bundle", bundle]
    assert run("--verbose", *one).stderr.count("loaded the") == 1

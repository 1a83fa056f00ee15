"""bareclip index and bareclip search, run in their own process as users run them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bareclip
from tests.machine import needs_any_name, needs_posix
from tests.runtime.fake_cuda import FakeCuda
from tests.runtime.test_cli import complaint, run
from tests.variants import picture


@pytest.fixture
def db(photos: Path, bundles: dict[str, Path], tmp_path: Path) -> Path:
    run("index", photos, "--db", tmp_path / "photos.db", "--bundle", bundles["tiny"])
    return tmp_path / "photos.db"


def test_the_first_run_and_the_next(photos: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    db = tmp_path / "photos.db"
    (photos / "broken.jpg").write_bytes(b"x")
    first = run("index", photos, "--db", db, "--bundle", bundles["tiny"])
    assert first.stdout.splitlines() == [
        "12 added, 0 unchanged", f"1 failed; see: bareclip index-status {db}",
    ]  # fmt: skip
    (photos / "00.jpg").rename(photos / "first.jpg")
    # The model is remembered.
    assert run("index", photos, "--db", db).stdout == "0 added, 1 renamed, 12 unchanged\n"
    found = json.loads(run("index", photos, "--db", db, "--json").stdout)
    assert (found["added"], found["unchanged"], found["failures"]) == (0, 13, [])
    status = run("index-status", db).stdout
    assert "tiny, fp32, 20 wide" in status
    assert f"{photos / 'broken.jpg'}: it is in no image format" in status
    described = json.loads(run("index-status", db, "--json").stdout)
    assert (described["photos"], len(described["failures"])) == (12, 1)
    assert described["made_by"]["model"] == "tiny"
    assert described["bundle"] == str(bundles["tiny"])


def test_search_answers_as_the_api_does(db: Path, photos: Path, clip: bareclip.Clip) -> None:
    found = json.loads(run("search", db, "a red circle", "-k", "5", "--json").stdout)
    with bareclip.Index.open(db, clip) as index:
        wanted = index.search("a red circle", k=5)
        by_image = index.search(photos / "00.jpg", k=3)
    [answer] = found
    assert answer["query"] == "a red circle"
    assert [hit["item"] for hit in answer["hits"]] == [hit.item for hit in wanted]
    assert [hit["similarity"] for hit in answer["hits"]] == pytest.approx(
        [hit.similarity for hit in wanted], abs=1e-6
    )
    table = run("search", db, "--image", photos / "00.jpg", "-k", "3").stdout.splitlines()
    assert table[0].split() == ["rank", "similarity", "item"]
    assert [line.split()[-1] for line in table[2:]] == [hit.item for hit in by_image]


def test_a_text_is_answered_without_the_vision_tower(
    db: Path, photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    wanted = run("search", db, "a red circle", "a cat", "--json").stdout
    bundle = Path(shutil.copytree(bundles["tiny"], tmp_path / "tiny"))
    for file in (bundle / "fp32").glob("vision*"):
        file.write_bytes(b"x" * file.stat().st_size)
    options = ["--bundle", bundle]
    assert run("search", db, "a red circle", "a cat", "--json", *options).stdout == wanted
    said = run("-v", "search", db, "a cat", *options).stderr
    assert said.count("loaded the") == said.count("loaded the text tower") == 1
    # The test would notice.
    assert "vision.onnx" in complaint("search", db, "--image", photos / "00.jpg", *options)


def test_filters_queries_and_pictures_of_the_answer(db: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text("a cat\n\na dog\n")
    sheet, page = tmp_path / "out.png", tmp_path / "out.html"
    found = json.loads(
        run(
            "search", db, "a bird", "--queries", tmp_path / "queries.txt", "--under", photos / "a",
            "--min-similarity", "-1", "--approximate", "--sheet", sheet, "--html", page, "--json",
        ).stdout
    )  # fmt: skip
    assert [answer["query"] for answer in found] == ["a bird", "a cat", "a dog"]
    assert {len(answer["hits"]) for answer in found} == {8}
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert page.read_text().count("data:image/jpeg;base64,") == 24
    table = run("search", db, "a bird", "a cat", "--min-similarity", "2").stdout
    assert table == "a bird\nnothing found\n\na cat\nnothing found\n"


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_export_and_import(db: Path, bundles: dict[str, Path], tmp_path: Path, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    path, second = tmp_path / f"v.{ending}", tmp_path / "second.db"
    assert run("index-export", db, path).stdout == f"12 vectors written to {path}\n"
    added = run("index-import", second, path, "--bundle", bundles["tiny"], "--json")
    assert json.loads(added.stdout) == {"vectors": 12}
    hits = [
        json.loads(run("search", which, "a cat", "--json").stdout)[0]["hits"]
        for which in (db, second)
    ]
    assert hits[0] == hits[1]


def test_options_make_the_index_what_it_stays(
    photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    db = tmp_path / "photos.db"
    options = ["--read", "as-stored", "--exact", "--precision", "fp32", "--threads", "1"]
    run("index", photos, "--db", db, "--bundle", bundles["tiny"], *options)
    made_by = json.loads(run("index-status", db, "--json").stdout)["made_by"]
    assert (made_by["reading"], made_by["decoding"]) == ("as_stored", "exact")
    assert run("index", photos, "--db", db).stdout == "0 added, 12 unchanged\n"
    run("search", db, "a cat", "--bundle", bundles["tiny"])
    assert "reading 'as_seen' where it has 'as_stored'" in complaint(
        "index", photos, "--db", db, "--read", "as-seen"
    )


def test_an_index_of_a_gpu_is_asked_by_text_on_a_cpu(
    photos: Path, precise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", minversion="1.20")  # as fp16's texts do
    bundle = Path(shutil.copytree(precise, tmp_path / "bundle"))
    db = tmp_path / "photos.db"
    with monkeypatch.context() as patch:
        FakeCuda().install(patch)
        clip = bareclip.load(bundle, device="cuda")
        with bareclip.Index.open(db, clip) as index:
            index.sync(photos)
            wanted = index.search("a cat", k=3)
    [answer] = json.loads(run("search", db, "a cat", "-k", "3", "--json").stdout)
    assert [hit["item"] for hit in answer["hits"]] == [hit.item for hit in wanted]
    for command in (("search", db, "--image", photos / "00.jpg"), ("index", photos, "--db", db)):
        assert "was made with tiny (fp16, as_seen, scaled decoding); what was given has prec" in (
            complaint(*command)
        )


def test_errors_are_one_line(
    db: Path, photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    bundle = ["--bundle", bundles["tiny"]]
    assert "the demo model knows no photos: make a real one with bareclip export" in complaint(
        "index", photos, "--db", tmp_path / "new.db"
    )
    assert not (tmp_path / "new.db").exists()
    assert "there is no index at" in complaint("search", tmp_path / "new.db", "x", *bundle)
    assert not (tmp_path / "new.db").exists()
    assert "there is no index at" in complaint("index-status", tmp_path / "new.db")
    for option, command in (
        ("--status", f"bareclip index-status {db} took the place of --status"),
        ("--export", f"bareclip index-export DB {db} took the place of --export"),
        ("--import", f"bareclip index-import DB {db} took the place of --import"),
    ):
        assert command in complaint("index", option, db, code=2)
    assert "give a .png file in a folder" in complaint("search", db, "x", "--sheet", "x.jpg")
    assert "give a .html file in a folder" in complaint("search", db, "x", "--html", "no/x.html")
    assert "has model 'odd' where it has 'tiny'" in complaint(
        "search", db, "x", "--bundle", bundles["odd"]
    )
    assert "No such file or directory" in complaint("index", tmp_path / "none", "--db", db)
    assert "is not a bundle" in complaint(
        "index", photos, "--db", tmp_path / "new.db", "--bundle", tmp_path
    )


def test_an_empty_folder_needs_prune(db: Path, photos: Path) -> None:
    photos.rename(photos.with_name("away"))
    assert "to remove the 12 files known under it: --prune" in complaint(
        "index", photos, "--db", db
    )
    assert "12 removed" in run("index", photos, "--db", db, "--prune").stdout


@needs_any_name
def test_names_that_are_not_utf8(photos: Path, db: Path, tmp_path: Path) -> None:
    raw = os.fsencode(photos) + b"/caf\xe9 \x1b[31m\n.jpg"
    picture(70, 40).save(os.fsdecode(raw))
    assert "1 added" in run("index", photos, "--db", db).stdout
    found = json.loads(run("search", db, "x", "-k", "20", "--json").stdout)
    assert raw in [os.fsencode(hit["item"]) for hit in found[0]["hits"]]
    page = tmp_path / "x.html"
    table = run("search", db, "x", "-k", "20", "--sheet", tmp_path / "x.png", "--html", page).stdout
    assert "caf\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}[31m" in table
    assert len(table.splitlines()) == 2 + 13
    assert "caf%E9%20%1B%5B31m%0A.jpg" in page.read_text()


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT counts in child processes too where a shell started the tests with ``&``."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@needs_posix
@pytest.mark.usefixtures("heeded")
def test_interrupted_is_one_line_and_130_with_the_work_kept(
    photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    for i in range(40):
        drawn = photos / f"drawn {i}.png"
        picture(300, 200, seed=i).save(drawn)
        # So many that a run takes seconds more than the first batch, which is waited for.
        for copy in range(149):
            (photos / f"copy {copy} of {i}.png").hardlink_to(drawn)
    db = tmp_path / "photos.db"
    command = [sys.executable, "-m", "bareclip", "index", photos, "--db", db, "--json", "--bundle"]
    with subprocess.Popen(
        [*map(str, command), str(bundles["tiny"])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        kept = 0
        while process.poll() is None and not kept:
            if db.exists():
                with bareclip.Index.open(db) as index:
                    kept = index.status().photos
        process.send_signal(signal.SIGINT)
        out, error = process.communicate()
    # click ends the line that the terminal's ^C is on.
    assert (process.returncode, out, error) == (130, "", "\nbareclip: interrupted\n")
    report = json.loads(run("index", photos, "--db", db, "--json").stdout)
    assert report["unchanged"] >= kept
    assert report["added"] + report["unchanged"] == 6012


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners of files")
def test_an_index_that_others_may_write_to_does_not_choose_the_bundle(
    photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    db = tmp_path / "photos.db"
    run("index", photos, "--db", db, "--bundle", bundles["tiny"])
    db.chmod(0o666)
    said = complaint("search", db, "a cat")
    assert f"is not yours alone, and says it was made with {bundles['tiny']}" in said
    run("search", db, "a cat", "--bundle", bundles["tiny"])


def test_pictures_over_the_limit_are_named(
    photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    db, own = tmp_path / "photos.db", ["--bundle", bundles["tiny"]]
    run("index", photos, "--db", db, "--max-pixels", 60 * 40, *own)
    told = json.loads(run("index-status", db, "--json").stdout)
    assert (told["photos"], len(told["failures"])) == (11, 1)
    assert "more than the 2,400 of JPEG that are decoded" in told["failures"][0]["reason"]
    output = ["-o", tmp_path / "x.npz", "--max-pixels", "2400", *own]
    assert "more than the 2,400" in run("embed", photos, *output, code=1).stderr


def test_a_mistyped_index_is_what_search_complains_of(tmp_path: Path) -> None:
    assert f"there is no index at {tmp_path / 'phtos.db'}; make one" in complaint(
        "search", tmp_path / "phtos.db", "a cat"
    )

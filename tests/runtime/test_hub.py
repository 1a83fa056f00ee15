"""Bundles by name, and pushed, against a local server that speaks the Hub's protocol."""

import dataclasses
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

import bareclip
from bareclip import BundleError
from bareclip.bundle import Bundle
from bareclip.bundle.fetched import Fetched
from bareclip.bundle.hub import is_name
from bareclip.bundle.locate import find_bundle
from bareclip.bundle.model_card import model_card
from tests.hub_server import COMMIT, OLDER, REPO, WRITER, Hub, fetched, serving
from tests.runtime.test_cli import run
from tests.variants import picture

TEXTS = ["a cat", "two dogs in the snow"]
FP32 = {f"fp32/{tower}.onnx{suffix}" for tower in ("vision", "text") for suffix in ("", ".data")}
INT8 = {name.replace("fp32", "int8") for name in FP32}
WEIGHTS = "fp32/vision.onnx.data"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def two_precisions(precise: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", minversion="1.22")  # which int8 needs
    folder = tmp_path_factory.mktemp("hub") / "bundle"
    whole = Bundle.read(Path(shutil.copytree(precise, folder)))
    kept = ("fp32", "int8")
    dataclasses.replace(
        whole,
        precisions={name: whole.precisions[name] for name in kept},
        fidelity={"int8": whole.fidelity["int8"]},
    ).write()
    for name in set(whole.precisions) - set(kept):
        shutil.rmtree(folder / name)
    return folder


@pytest.fixture
def hub(two_precisions: Path, bundles: dict[str, Path], tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that knows no other Hub than this one."""
    with serving(tmp_path) as environment:
        Hub.repositories[REPO] = {"main": COMMIT, "v1": OLDER}
        for commit, folder in ((COMMIT, two_precisions), (OLDER, bundles["odd"])):
            Hub.folders[commit] = Path(shutil.copytree(folder, tmp_path / "served" / commit))
            (Hub.folders[commit] / "training.log").write_text("not to be downloaded")
        yield environment


def embed(name: str, environment: dict[str, str], **options: Any) -> dict[str, Any]:
    """What a process of its own gets: the vectors, the folder; no network once loaded."""
    script = (
        "import json, sys, bareclip, huggingface_hub.constants as constants\n"
        "name, options, texts = json.loads(sys.argv[1])\n"
        "clip = bareclip.load(name, **options)\n"
        "constants.ENDPOINT = 'http://127.0.0.1:9'\n"
        "print(json.dumps([str(clip.bundle.folder), clip.precision,"
        " clip.embed_texts(texts).tolist()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([name, options, TEXTS])],
        capture_output=True, text=True, env=os.environ | environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder, precision, vectors = json.loads(done.stdout)
    found = np.array(vectors, np.float32)
    return {"folder": Path(folder), "precision": precision, "vectors": found}


def complaint(*arguments: str | Path, **environment: str) -> str:
    found = run(*arguments, code=1, **environment)
    assert found.stdout == ""
    assert "Traceback" not in found.stderr
    # Some versions of huggingface_hub count their attempts on lines of their own.
    [message] = [line for line in found.stderr.splitlines() if line.startswith("bareclip: ")]
    return message


@pytest.mark.parametrize(
    "name", ["a/b", "A-1/b.c_d", "someone/clip@main", "someone/clip@refs/pr/1", f"a/b@{COMMIT}"]
)
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "./owner/name", "../name", "~/x/y", "~/x", "a/b/c", "/a/b", "a/b/", "a", "", "a\\b",
        "C:/models", "C:\\models\\b32", "a/b@", "a/b@../x", "a/..", "a b/c", "a/b c", "@a/b",
        "a//b", "a--b/c", "a/b.", "a-/b", "a/b.git", "a/" + "b" * 97, "ä/b", "a/b\n",
    ],
)  # fmt: skip
def test_what_is_no_name_is_a_folder(name: str) -> None:
    assert not is_name(name)
    assert find_bundle(name) == Path(name).expanduser().absolute()


def test_a_folder_comes_before_the_hub(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundles["tiny"], tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert bareclip.load("owner/name").embed_texts(TEXTS).shape == (2, 20)
    with pytest.raises(BundleError, match="owner/other is not a bundle: it has no bundle.json"):
        bareclip.load(Path("owner/other"))  # a Path is one here


def test_of_a_folder_too_only_what_is_asked_for_must_be_there(
    two_precisions: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(two_precisions, tmp_path / "bundle"))
    shutil.rmtree(folder / "fp32")
    wanted = bareclip.load(two_precisions, precision="int8").embed_texts(TEXTS)
    clip = bareclip.load(folder, precision="int8")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clip)).embed_texts(TEXTS), wanted)
    with pytest.raises(BundleError, match=r"fp32/vision.onnx is missing"):
        bareclip.load(folder)  # never int8 unasked
    with pytest.raises(BundleError, match=r"is missing"):
        Bundle.read(folder)


def test_a_bundle_by_name_answers_as_its_folder(hub: dict[str, str], two_precisions: Path) -> None:
    found = embed(REPO, hub)
    wanted = bareclip.load(two_precisions).embed_texts(TEXTS)
    np.testing.assert_array_equal(found["vectors"], wanted)
    assert fetched() == {"bundle.json", "tokenizer.json", *FP32}
    Hub.asked.clear()
    for name in (REPO, f"{REPO}@{COMMIT}", str(found["folder"])):
        offline = embed(name, hub | OFFLINE)
        np.testing.assert_array_equal(offline["vectors"], wanted)
        assert offline["folder"] == found["folder"]
    embed(f"{REPO}@{COMMIT}", hub)
    assert Hub.asked == []


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"precision": "int8"}, {"tokenizer.json", *INT8}),
        ({"towers": ["text"]}, {"tokenizer.json", "fp32/text.onnx", "fp32/text.onnx.data"}),
        (
            {"precision": {"vision": "int8"}},
            {"tokenizer.json", "fp32/text.onnx", "fp32/text.onnx.data"}
            | {"int8/vision.onnx", "int8/vision.onnx.data"},
        ),
    ],
)
def test_only_what_is_asked_for_is_fetched(
    hub: dict[str, str], two_precisions: Path, options: dict[str, Any], files: set[str]
) -> None:
    files = files & {*Bundle.read(two_precisions).files()}
    found = embed(REPO, hub, **options)
    wanted = bareclip.load(two_precisions, **options).embed_texts(TEXTS)
    np.testing.assert_array_equal(found["vectors"], wanted)
    assert fetched() == {"bundle.json", *files}
    # What another asks for later is fetched to it, also where it is named by its folder.
    message = complaint("info", found["folder"], **hub | OFFLINE)
    assert "cannot fetch " in message
    assert "HF_HUB_OFFLINE is set" in message
    Hub.asked.clear()
    embed(str(found["folder"]), hub, precision="fp32")
    assert fetched() == FP32 - files


def test_a_branch_that_moves_is_followed_and_a_revision_kept(
    hub: dict[str, str], bundles: dict[str, Path]
) -> None:
    old = embed(f"{REPO}@v1", hub)
    np.testing.assert_array_equal(old["vectors"], bareclip.load(bundles["odd"]).embed_texts(TEXTS))
    new = embed(REPO, hub)
    assert new["vectors"].shape != old["vectors"].shape
    Hub.repositories[REPO]["main"] = OLDER
    np.testing.assert_array_equal(embed(REPO, hub)["vectors"], old["vectors"])
    assert embed(f"{REPO}@{COMMIT}", hub | OFFLINE)["folder"] == new["folder"]


def test_what_cannot_be_had_is_one_line(hub: dict[str, str], tmp_path: Path) -> None:
    Hub.repositories["someone/secret"] = Hub.repositories["someone/asked"] = {"main": COMMIT}
    Hub.private.add("someone/secret")
    Hub.gated.add("someone/asked")
    (tmp_path / "empty").mkdir()
    Hub.repositories["someone/checkpoint"] = {"main": "1" * 40}
    Hub.folders["1" * 40] = tmp_path / "empty"
    for name, environment, wanted in (
        ("clips/b32", {}, "clips/b32 is no folder here, and the Hub has no repository clips/b32"),
        (f"{REPO}@v9", {}, f"{REPO} has no revision v9"),
        ("someone/secret", {}, "no repository someone/secret, or not for you: .*HF_TOKEN"),
        ("someone/asked", {}, "ask for it at http.*/someone/asked; then set HF_TOKEN"),
        (REPO, OFFLINE, f"{REPO} is no folder here, and it is not in .* HF_HUB_OFFLINE is set"),
        (REPO, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached: .*check the network"),
        (REPO, {"HF_ENDPOINT": "http://hub.example"}, "HF_ENDPOINT is not an https:// address"),
        (
            "someone/checkpoint",
            {},
            "is no bundle, .* bareclip export someone/checkpoint -o checkpoint",
        ),
        (REPO, {"HF_HOME": f"{__file__}/cache"}, "cache cannot be written: .* set HF_HOME"),
    ):
        message = complaint("info", name, **hub | environment)
        assert re.search(wanted, message), message


def test_without_huggingface_hub_the_command_is_named(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "import bareclip\n"
        "try: bareclip.load('owner/name')\n"
        "except bareclip.BundleError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "owner/name is no folder here" in done.stdout
    assert done.stdout.endswith("pip install huggingface_hub\n")


def test_it_is_not_imported_for_a_folder() -> None:
    script = "import sys, bareclip; bareclip.load(); print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "bundle.json"])
def test_what_is_not_the_manifests_is_refused_by_name_and_not_kept(
    hub: dict[str, str], tmp_path: Path, name: str
) -> None:
    Hub.rotten.add(name)
    for _ in range(2):
        assert f"{name} of {REPO}@{COMMIT} is not what" in complaint("info", REPO, **hub)
        assert not list((tmp_path / "cache").rglob(Path(name).name))
    Hub.rotten.clear()
    assert run("info", REPO, "--json", **hub).stderr == ""


def test_a_file_that_another_program_left_in_the_cache_is_checked(
    hub: dict[str, str], tmp_path: Path
) -> None:
    script = "import sys, huggingface_hub as h; print(h.snapshot_download(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, REPO],
        env=os.environ | hub, capture_output=True, text=True, check=True,
    )  # fmt: skip
    blob = (Path(done.stdout.strip()) / WEIGHTS).resolve()
    data = blob.read_bytes()
    Hub.asked.clear()
    embed(REPO, hub)
    assert not fetched() & FP32
    shutil.rmtree(tmp_path / "cache" / "hub" / "models--someone--clip-tiny" / "bareclip")
    blob.chmod(0o644)
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    embed(REPO, hub)
    assert fetched() & FP32 == {WEIGHTS}
    assert blob.read_bytes() == data


def test_weights_behind_links_to_a_store_that_repositories_share(
    hub: dict[str, str], tmp_path: Path, two_precisions: Path
) -> None:
    # huggingface_hub 2 keeps files so, in a folder for each beginning of their names; ONNX Runtime
    # 1.24 and newer read no weights from another folder than the graph's.
    repository = tmp_path / "cache" / "hub" / "models--someone--clip-tiny"
    for path in (p for p in Hub.folders[COMMIT].rglob("*") if p.is_file()):
        data, name = path.read_bytes(), path.relative_to(Hub.folders[COMMIT])
        etag = sha256(data).hexdigest()
        stored = sha256(b"xet" + data).hexdigest()
        shared = tmp_path / "cache" / "hub" / "blobs" / stored[:2] / stored
        blob, link = repository / "blobs" / etag, repository / "snapshots" / COMMIT / name
        for place in (shared, blob, link):
            place.parent.mkdir(parents=True, exist_ok=True)
        shared.write_bytes(data)
        blob.symlink_to(os.path.relpath(shared, blob.parent))
        link.symlink_to(os.path.relpath(blob, link.parent))
    found = embed(f"{REPO}@{COMMIT}", hub | OFFLINE)
    wanted = bareclip.load(two_precisions).embed_texts(TEXTS)
    np.testing.assert_array_equal(found["vectors"], wanted)


@pytest.mark.parametrize("etag", ["../../../../planted.pth", "/planted", "0" * 41])
def test_a_checksum_that_is_a_path_is_refused(
    hub: dict[str, str], tmp_path: Path, etag: str
) -> None:
    Hub.etags["bundle.json"] = etag
    assert "does not answer as the Hub does" in complaint("info", REPO, **hub)
    Hub.etags["tokenizer.json"] = Hub.etags.pop("bundle.json")
    assert "does not answer as the Hub does" in complaint("info", REPO, **hub)
    assert not list(tmp_path.rglob("planted*"))


@pytest.mark.parametrize(("name", "size"), [("bundle.json", 2**21), (WEIGHTS, 10**6)])
def test_more_than_a_bundle_can_want_is_not_downloaded(
    hub: dict[str, str], tmp_path: Path, name: str, size: int
) -> None:
    with (Hub.folders[COMMIT] / name).open("ab") as file:
        file.truncate(size)
    assert f"{name} of " in (message := complaint("info", REPO, **hub))
    assert "more than its bundle can want" in message
    assert not list((tmp_path / "cache").rglob(Path(name).name))


@pytest.mark.parametrize(
    "name",
    [
        "fp32/../../planted", "/planted", "", "fp32", "a\0b", "planted", "\ud800planted", "x" * 300,
        "fp32/vision.onnx/planted",
    ],
)  # fmt: skip
def test_a_manifest_that_names_odd_files_is_one_line(
    hub: dict[str, str], tmp_path: Path, name: str
) -> None:
    manifest = Hub.folders[COMMIT] / "bundle.json"
    manifest.write_text(manifest.read_text().replace(f'"{WEIGHTS}"', json.dumps(name)))
    assert complaint("info", REPO, **hub)
    assert not list(tmp_path.rglob("planted*"))


def grow() -> int:
    """Makes the weights larger than what huggingface_hub writes at once; gives their length."""
    folder = Hub.folders[COMMIT]
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes() + bytes(24_000_000))
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["precisions"]["fp32"]["vision"]["files"][WEIGHTS] = {
        "size": path.stat().st_size,
        "sha256": sha256(path.read_bytes()).hexdigest(),
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return path.stat().st_size


def test_a_lost_connection_is_taken_up_where_it_broke(
    hub: dict[str, str], two_precisions: Path
) -> None:
    Hub.cut[WEIGHTS] = grow() - 100
    # huggingface_hub before 2 leaves some breaks to the next run.
    command = [sys.executable, "-m", "bareclip", "info", REPO]
    subprocess.run(command, env=os.environ | hub, capture_output=True, timeout=120)
    found = embed(REPO, hub)
    assert [name for name, start in Hub.ranges if start > 0] == [WEIGHTS]
    wanted = bareclip.load(two_precisions).embed_texts(TEXTS)
    np.testing.assert_array_equal(found["vectors"], wanted)


def test_a_download_that_was_killed_leaves_nothing_that_is_believed(
    hub: dict[str, str], two_precisions: Path
) -> None:
    Hub.held[WEIGHTS] = grow() - 100
    command = [sys.executable, "-m", "bareclip", "info", REPO]
    with subprocess.Popen(command, env=os.environ | hub, stderr=subprocess.DEVNULL) as process:
        assert Hub.holding.wait(60)
        process.kill()
    Hub.release.set()
    assert f"cannot fetch {WEIGHTS}: " in complaint("info", REPO, **hub | {"HF_HUB_OFFLINE": "1"})
    wanted = bareclip.load(two_precisions).embed_texts(TEXTS)
    np.testing.assert_array_equal(embed(REPO, hub)["vectors"], wanted)


def test_every_verb_takes_a_name(hub: dict[str, str], tmp_path: Path) -> None:
    picture(60, 40).save(tmp_path / "a.png")
    assert json.loads(run("info", REPO, "--json", **hub).stdout)["damaged"] == []
    assert "int8 against fp32" in run("verify", REPO, **hub).stdout
    run("bench", REPO, "--seconds", "0.001", "--json", **hub)
    run("classify", tmp_path / "a.png", "--labels", "cat,dog", "--bundle", REPO, **hub)


def test_an_index_made_by_name_is_asked_without_it(hub: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    picture(60, 40).save(tmp_path / "photos" / "a.png")
    db = tmp_path / "photos.db"
    run("index", tmp_path / "photos", "--db", db, "--bundle", REPO, "--precision", "int8", **hub)
    assert not fetched() & {"fp32/vision.onnx.data"}
    [hit] = json.loads(run("search", db, "a cat", "--json", **hub).stdout)
    assert str(hit).count("a.png")


def test_a_pickled_clip_keeps_its_commit(
    hub: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = embed(REPO, hub)["folder"]
    clip = bareclip.load(folder)
    Hub.asked.clear()
    again = pickle.loads(pickle.dumps(clip))
    assert again.bundle.folder == folder
    np.testing.assert_array_equal(again.embed_texts(TEXTS), clip.embed_texts(TEXTS))
    assert Hub.asked == []


def test_what_is_pushed_is_loaded_the_same_to_the_bit(
    hub: dict[str, str], two_precisions: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(two_precisions, tmp_path / "bundle"))
    (bundle / "notes.txt").write_text("not a file of the bundle")
    writer = hub | {"HF_TOKEN": WRITER}
    done = run("push", bundle, "me/mine", "--private", **writer)
    commit = Hub.repositories["me/mine"]["main"]
    assert done.stdout.endswith(f"{hub['HF_ENDPOINT']}/me/mine/tree/{commit}\n")
    there = Hub.folders[commit]
    names = {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()}
    wanted = {*Bundle.read(bundle).files(), "bundle.json"}
    assert names == wanted | {"README.md", ".gitattributes"}
    assert "me/mine" in Hub.private
    assert "or not for you" in complaint("info", "me/mine", **hub)
    Hub.asked.clear()
    for precision in ("fp32", "int8"):
        found = embed("me/mine", writer | {"HF_HOME": str(tmp_path / "fresh")}, precision=precision)
        clip = bareclip.load(bundle, precision=precision)
        np.testing.assert_array_equal(found["vectors"], clip.embed_texts(TEXTS))


def test_a_second_push_replaces_the_bundle_and_keeps_the_card(
    hub: dict[str, str], bundles: dict[str, Path], two_precisions: Path
) -> None:
    writer = hub | {"HF_TOKEN": WRITER}
    run("push", bundles["tiny"], "me/mine", **writer)
    first = Hub.folders[Hub.repositories["me/mine"]["main"]]
    (first / "README.md").write_text("written by hand")
    run("push", two_precisions, "me/mine", **writer)
    there = Hub.folders[Hub.repositories["me/mine"]["main"]]
    assert (there / "README.md").read_text() == "written by hand"
    assert Bundle.read(there) == Bundle.read(two_precisions)
    uploads = [path for path in Hub.asked if path.startswith("/uploads/")]
    assert len(uploads) == len({*uploads})  # what is there already is not sent again
    run("push", two_precisions, "me/mine", "--overwrite-card", **writer)
    there = Hub.folders[Hub.repositories["me/mine"]["main"]]
    assert (there / "README.md").read_text() == model_card(Bundle.read(two_precisions), "me/mine")


def test_what_is_not_pushed(hub: dict[str, str], two_precisions: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(two_precisions, tmp_path / "bundle"))
    writer = hub | {"HF_TOKEN": WRITER}
    reader = hub | {"HF_TOKEN": "hf_may_read"}
    assert "set HF_TOKEN" in complaint("push", bundle, "me/mine", **hub)
    assert "does not let this token" in complaint("push", bundle, "me/mine", **reader)
    assert "does not let this token" in complaint("push", bundle, REPO, **reader)
    assert "no name on the Hub" in complaint("push", bundle, "mine", **writer)
    assert "no name on the Hub" in complaint("push", bundle, "me/mine@main", **writer)
    assert "HF_HUB_OFFLINE" in complaint("push", bundle, "me/mine", **writer | OFFLINE)
    assert "there already, and public" in complaint("push", bundle, REPO, "--private", **writer)
    path = bundle / WEIGHTS
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert f"is damaged, its checksums differ: {WEIGHTS}; nothing was pushed" in complaint(
        "push", bundle, "me/mine", **writer
    )
    assert "me/mine" not in Hub.repositories
    assert Hub.repositories[REPO]["main"] == COMMIT
    assert not Hub.uploaded


def test_fetched_folders_are_told_from_others(tmp_path: Path) -> None:
    ours = tmp_path / "models--someone--clip-tiny" / "bareclip" / COMMIT
    found = Fetched.at(ours)
    assert found is not None
    assert found.name == f"{REPO}@{COMMIT}"
    for other in (ours.parent, ours.parent / "main", tmp_path, Path("/"), Path()):
        assert Fetched.at(other) is None
    assert Fetched.at(tmp_path / "models--someone--clip-tiny" / "snapshots" / COMMIT) is None


def test_processes_that_come_at_once_fetch_it_together(
    hub: dict[str, str], tmp_path: Path, two_precisions: Path
) -> None:
    script = f"import bareclip; print(bareclip.load({REPO!r}).embed_texts({TEXTS!r}).tolist())"
    started = [
        subprocess.Popen([sys.executable, "-c", script], env=os.environ | hub, stdout=-1, text=True)
        for _ in range(4)
    ]
    wanted = bareclip.load(two_precisions).embed_texts(TEXTS)
    for process in started:
        output, _ = process.communicate(timeout=120)
        np.testing.assert_array_equal(np.array(json.loads(output), np.float32), wanted)
    kept = tmp_path / "cache" / "hub" / "models--someone--clip-tiny" / "bareclip" / COMMIT
    names = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    assert names == {"bundle.json", "tokenizer.json", *FP32}


def test_files_take_no_room_twice_and_go_with_their_repository(
    hub: dict[str, str], tmp_path: Path
) -> None:
    kept = embed(REPO, hub)["folder"]
    assert (kept / WEIGHTS).stat().st_nlink == 2
    script = (
        "import sys, huggingface_hub as h\n"
        "found = h.scan_cache_dir()\n"
        "assert not found.warnings, found.warnings\n"
        "found.delete_revisions(sys.argv[1]).execute()\n"
    )
    subprocess.run([sys.executable, "-c", script, COMMIT], env=os.environ | hub, check=True)
    assert not kept.exists()


def test_a_file_system_without_hard_links_gets_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no hard links")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "blob").write_bytes(b"data")
    to = Fetched(tmp_path / "models--a--b" / "bareclip" / COMMIT, "a/b")
    for _ in range(2):
        to.keep("fp32/x", tmp_path / "blob")
    assert [path.name for path in (to.folder / "fp32").iterdir()] == ["x"]
    assert (to.folder / "fp32" / "x").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("licence", "identifier", "said"),
    [
        ("mit", "mit", "The weights keep the licence of `someone/model`: mit."),
        ("Apache-2.0", "apache-2.0", "The weights keep the licence of"),
        ("cc-by-nc-4.0", "cc-by-nc-4.0", "**Restricted.**"),
        ("apple-amlr", "apple-amlr", "**Restricted.**"),
        ("other", "other", "**Restricted.**"),
        ("mine\ntags: [evil]", "other", "**Restricted.**"),
        (None, None, "states no licence"),
    ],
)
def test_a_card_says_what_its_licence_allows(
    bundles: dict[str, Path], licence: str | None, identifier: str | None, said: str
) -> None:
    bundle = Bundle.read(bundles["tiny"])
    source = dataclasses.replace(
        bundle.source, license=licence, checkpoint="someone/model", revision=COMMIT
    )
    card = model_card(dataclasses.replace(bundle, source=source), "me/mine")
    read = ModelCard(card)  # the Hub's own reader
    assert read.data.license == identifier
    assert said in read.text
    assert read.data.base_model == "someone/model"
    assert read.data.library_name == "bareclip"
    assert read.data.pipeline_tag == "zero-shot-image-classification"
    assert read.data.tags == ["bareclip", "onnx", "clip"]


def test_a_card_has_every_towers_figures(two_precisions: Path) -> None:
    bundle = Bundle.read(two_precisions)
    card = ModelCard(model_card(bundle, "me/mine"))
    assert card.data.base_model is None  # made from a folder
    rows = [line.split("|")[1:-1] for line in card.text.splitlines() if line.startswith("| ")][1:]
    found = {(row[0].strip(), row[1].strip()): [cell.strip() for cell in row[3:]] for row in rows}
    for tower in ("vision", "text"):
        parity = bundle.tower("fp32", tower).parity
        assert parity is not None
        size = sum(r.size for r in bundle.tower("fp32", tower).files.values())
        assert found["fp32", tower] == [
            f"{size / 1e6:.1f}", "float64 NumPy", f"largest difference {parity.max_difference:.1e}",
        ]  # fmt: skip
        report = bundle.fidelity["int8"].towers[tower]
        assert f"cosine {report.mean_cosine:.5f}" in found["int8", tower][2]
    assert 'bareclip.load("me/mine")' in card.text
    one = dataclasses.replace(bundle, text=None, tokenizer=None)
    assert ModelCard(model_card(one, "me/mine")).data.pipeline_tag == "image-feature-extraction"

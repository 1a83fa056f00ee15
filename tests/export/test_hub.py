"""Checkpoints by name, against a local server that speaks the Hub's protocol."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bareclip.bundle import Bundle
from tests.export.test_ready_made import set_weights_apart, write_text, write_vision
from tests.hub_server import COMMIT, OLDER, REPO, Hub, fetched, serving
from tests.runtime.test_cli import run
from tests.seeded import open_clip


@pytest.fixture
def hub(checkpoints: dict[str, Path], tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that knows no other Hub than this one."""
    with serving(tmp_path) as environment:
        Hub.repositories[REPO] = {"main": COMMIT, "v1": OLDER}
        for commit, name in ((COMMIT, "tiny"), (OLDER, "odd")):
            folder = Path(shutil.copytree(checkpoints[name], tmp_path / "repository" / commit))
            (folder / "README.md").write_text("---\nlicense: mit\n---\n")
            (folder / "pytorch_model.bin").write_bytes(b"not to be downloaded")
            (folder / "flax_model.msgpack").write_bytes(b"nor this")
            Hub.folders[commit] = folder
        yield environment


def test_a_name_is_downloaded_once_and_then_works_offline(
    hub: dict[str, str], tmp_path: Path, bundles: dict[str, Path]
) -> None:
    run("export", REPO, "-o", tmp_path / "first", **hub)
    bundle = Bundle.read(tmp_path / "first")
    assert bundle.files() == Bundle.read(bundles["tiny"]).files()
    assert bundle.name == "clip-tiny"
    source = bundle.source
    assert (source.checkpoint, source.revision, source.license) == (REPO, COMMIT, "mit")
    fetched = [path for path in Hub.asked if "/resolve/" in path]
    assert not [path for path in fetched if path.endswith((".bin", ".msgpack"))]
    Hub.asked.clear()
    offline = hub | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    run("export", REPO, "-o", tmp_path / "second", **offline)
    assert Bundle.read(tmp_path / "second").files() == bundle.files()
    assert Hub.asked == []


def test_a_revision_is_honoured(hub: dict[str, str], tmp_path: Path) -> None:
    run("export", f"{REPO}@v1", "-o", tmp_path / "old", **hub)
    bundle = Bundle.read(tmp_path / "old")
    assert bundle.source.revision == OLDER
    assert bundle.embedding_dim == 12


def test_a_repository_with_only_a_pickle(hub: dict[str, str], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    from tests.torch_zip import write_torch_zip

    weights = Hub.folders[COMMIT] / "model.safetensors"
    write_torch_zip(Hub.folders[COMMIT] / "pytorch_model.bin", load_file(weights))
    weights.unlink()
    run("export", REPO, "-o", tmp_path / "bundle", **hub)
    assert Bundle.read(tmp_path / "bundle").embedding_dim == 20


def test_a_repository_of_sentence_transformers(hub: dict[str, str], tmp_path: Path) -> None:
    folder = Hub.folders[COMMIT]
    inner = folder.parent / "inner"
    folder.rename(inner)
    folder.mkdir()
    inner.rename(folder / "0_CLIPModel")
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "x.models.CLIPModel"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    run("export", REPO, "-o", tmp_path / "bundle", **hub)
    bundle = Bundle.read(tmp_path / "bundle")
    assert (bundle.embedding_dim, bundle.name) == (20, "clip-tiny")
    fetched = [path for path in Hub.asked if "/resolve/" in path]
    assert not [path for path in fetched if path.endswith((".bin", ".msgpack"))]


def test_what_cannot_be_had_is_one_line(hub: dict[str, str], tmp_path: Path) -> None:
    def complaint(name: str, **environment: str) -> str:
        found = run("export", name, "-o", tmp_path / "x", code=1, **hub | environment)
        assert found.stderr.count("\n") == 1
        assert not (tmp_path / "x").exists()
        return found.stderr

    for name, environment in (
        ("someone/nothing", {}),
        (f"{REPO}@v9", {}),
        (REPO, {"HF_HUB_OFFLINE": "1"}),
        (REPO, {"HF_ENDPOINT": "http://127.0.0.1:9"}),
    ):
        message = complaint(name, **environment)
        assert f"{name} is no folder here, and cannot be downloaded: " in message
        assert "Check the name, the network, HF_ENDPOINT" in message


def test_of_a_repository_in_both_layouts_one_form_of_the_weights_is_downloaded(
    hub: dict[str, str], tmp_path: Path
) -> None:
    open_clip.write_checkpoint(Hub.folders[COMMIT])
    (Hub.folders[COMMIT] / "open_clip_pytorch_model.bin").write_bytes(b"not wanted")
    run("export", REPO, "-o", tmp_path / "bundle", **hub)
    made = Bundle.read(tmp_path / "bundle")
    assert made.source.architecture == "open_clip VisionTransformer"
    weights = {name for name in fetched() if "model" in name}
    assert weights == {"open_clip_model.safetensors"}


def test_ready_made_graphs_are_downloaded_without_the_weights(
    hub: dict[str, str], tmp_path: Path
) -> None:
    folder = Hub.folders[COMMIT]
    vocabulary = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    write_vision(folder)
    write_text(folder, vocabulary)
    set_weights_apart(folder / "onnx" / "vision_model.onnx")
    (folder / "onnx" / "vision_model_quantized.onnx").write_bytes(b"not wanted")
    run("import", REPO, "-o", tmp_path / "bundle", **hub)
    assert Bundle.read(tmp_path / "bundle").source.revision == COMMIT
    graphs = {name for name in fetched() if name.startswith("onnx/")}
    assert graphs == {
        f"onnx/{name}"
        for name in ("vision_model.onnx", "vision_model.onnx_data", "text_model.onnx")
    }
    assert "model.safetensors" not in fetched()
    offline = hub | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    run("import", REPO, "-o", tmp_path / "again", **offline)
    assert Bundle.read(tmp_path / "again").files() == Bundle.read(tmp_path / "bundle").files()


WEIGHTS = "model.safetensors"


def grow() -> int:
    """Makes the weights' file larger than what huggingface_hub writes at once; gives its length."""
    from safetensors.numpy import load_file, save_file

    path = Hub.folders[COMMIT] / WEIGHTS
    save_file(load_file(path), path, metadata={"padding": "x" * 24_000_000})
    return path.stat().st_size


def test_a_lost_connection_is_taken_up_where_it_broke(
    hub: dict[str, str], tmp_path: Path, bundles: dict[str, Path]
) -> None:
    Hub.cut[WEIGHTS] = grow() - 100
    run("export", REPO, "-o", tmp_path / "bundle", **hub)
    assert [name for name, start in Hub.ranges if start > 0] == [WEIGHTS]
    assert Bundle.read(tmp_path / "bundle").files() == Bundle.read(bundles["tiny"]).files()


def test_a_download_that_was_killed_leaves_nothing_half_read(
    hub: dict[str, str], tmp_path: Path, bundles: dict[str, Path]
) -> None:
    Hub.held[WEIGHTS] = grow() - 100
    command = [sys.executable, "-m", "bareclip", "export", REPO, "-o", str(tmp_path / "bundle")]
    with subprocess.Popen(command, env=os.environ | hub, stderr=subprocess.DEVNULL) as process:
        assert Hub.holding.wait(60)
        process.kill()
    Hub.release.set()
    assert not (tmp_path / "bundle").exists()
    offline = hub | {"HF_HUB_OFFLINE": "1"}
    found = run("export", REPO, "-o", tmp_path / "bundle", code=1, **offline)
    assert found.stderr.count("\n") == 1
    assert WEIGHTS in found.stderr
    assert "HF_HUB_OFFLINE" in found.stderr
    run("export", REPO, "-o", tmp_path / "bundle", **hub)
    assert Bundle.read(tmp_path / "bundle").files() == Bundle.read(bundles["tiny"]).files()


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_file_that_is_not_the_hubs_is_refused_by_name(
    hub: dict[str, str], tmp_path: Path, name: str
) -> None:
    Hub.rotten.add(name)
    for _ in range(2):  # a second run finds it in the cache
        found = run("export", REPO, "-o", tmp_path / "bundle", code=1, **hub)
        message = found.stderr.splitlines()[-1]  # after huggingface_hub's progress
        assert message.startswith(f"bareclip: {name} of ")
        assert not (tmp_path / "bundle").exists()
    Hub.rotten.clear()
    advised = re.search(r"; delete (.*) and run this again", message)
    assert advised
    Path(advised[1]).unlink()
    run("export", REPO, "-o", tmp_path / "bundle", **hub)


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"ETag": "{}/x.pth"}, "for a checksum, which is none; nothing was written"),
        ({"ETag": 'W/"../../../../x.pth"'}, "for a checksum, which is none"),
        ({"ETag": '"' + "0" * 39 + '"'}, "for a checksum, which is none"),
        ({"X-Linked-Etag": '"{}/x.pth"'}, "for a checksum, which is none"),
        ({"X-Repo-Commit": "../../../../x"}, "gives '../../../../x' for a commit, which is none"),
        ({"sha": "../../../../x"}, "gives '../../../../x' for a commit, which is none"),
    ],
)
def test_a_hostile_hub_writes_nothing(
    hub: dict[str, str], tmp_path: Path, lie: dict[str, str], message: str
) -> None:
    """huggingface_hub joins what a server says into paths."""
    outside = tmp_path / "outside"
    outside.mkdir()
    Hub.lies |= {name: value.format(outside) for name, value in lie.items()}
    found = run("export", REPO, "-o", tmp_path / "bundle", code=1, **hub)
    assert message in found.stderr.splitlines()[-1]
    assert not list(outside.iterdir())
    assert not [path for path in tmp_path.rglob("x*") if path.name in ("x", "x.pth", "x.json")]


def test_an_address_that_anyone_could_answer_at_is_refused(
    hub: dict[str, str], tmp_path: Path
) -> None:
    for address in ("http://huggingface.co", "http://127.example.org", "ftp://127.0.0.1"):
        environment = hub | {"HF_ENDPOINT": address}
        found = run("export", REPO, "-o", tmp_path / "bundle", code=1, **environment)
        assert f"HF_ENDPOINT is {address}, where anyone on the way could" in found.stderr
    assert Hub.asked == []


def test_a_file_of_the_cache_that_is_a_link_elsewhere_is_refused(
    hub: dict[str, str], tmp_path: Path
) -> None:
    run("export", REPO, "-o", tmp_path / "first", **hub)
    [path] = (tmp_path / "cache").rglob("config.json")
    (tmp_path / "other.json").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "other.json")
    offline = hub | {"HF_HUB_OFFLINE": "1"}
    found = run("export", REPO, "-o", tmp_path / "bundle", code=1, **offline)
    assert "other.json, which is no file of the cache" in found.stderr

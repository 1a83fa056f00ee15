"""Checkpoints by name, against a local server that speaks the Hub's protocol."""

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest

from bareclip.bundle import Bundle
from tests.export.test_ready_made import set_weights_apart, write_text, write_vision
from tests.runtime.test_cli import run
from tests.seeded import open_clip

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "fedcba9876543210fedcba9876543210fedcba98"
REPO = "someone/clip-tiny"
REVISIONS = {"main": COMMIT, "v1": OLDER}


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def _etag(data: bytes, large: bool) -> str:
    """What the Hub says of a file: the SHA-256 of a large one, Git's name of another."""
    if large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Hub(http.server.BaseHTTPRequestHandler):
    """Two revisions of one repository, as huggingface_hub asks for them.

    Attributes:
        cut: Files of which the connection's end leaves that many bytes, once.
        held: Files of which that many bytes come, and then nothing until ``release``.
        rotten: Files whose bytes are not those of their checksum.
        ranges: Files asked for from a byte on, and that byte.
    """

    protocol_version = "HTTP/1.1"
    folders: ClassVar[dict[str, Path]] = {}
    asked: ClassVar[list[str]] = []
    cut: ClassVar[dict[str, int]] = {}
    held: ClassVar[dict[str, int]] = {}
    rotten: ClassVar[set[str]] = set()
    ranges: ClassVar[list[tuple[str, int]]] = []
    holding: ClassVar[threading.Event]
    release: ClassVar[threading.Event]

    @classmethod
    def reset(cls) -> None:
        for noted in (cls.asked, cls.cut, cls.held, cls.rotten, cls.ranges):
            noted.clear()
        cls.holding, cls.release = threading.Event(), threading.Event()

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        route, _, revision = path.removeprefix(f"/api/models/{REPO}").rpartition("/")
        commit = REVISIONS.get(revision, revision)
        if route == "/revision" and commit in self.folders:
            siblings = [{"rfilename": name} for name in _files(self.folders[commit])]
            info = {"id": REPO, "sha": commit, "siblings": siblings, "tags": []}
            return self._send(200, json.dumps(info).encode(), body)
        if route == "/tree" and commit in self.folders:
            files = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": path.name}
                for name, path in _files(self.folders[commit]).items()
            ]
            return self._send(200, json.dumps(files).encode(), body)
        if path.startswith(f"/{REPO}/resolve/"):
            commit, _, name = path.removeprefix(f"/{REPO}/resolve/").partition("/")
            commit = REVISIONS.get(commit, commit)
            file = self.folders.get(commit, Path("/none")) / name
            if file.is_file():
                data = file.read_bytes()
                large = name.endswith(".safetensors")
                headers = {"ETag": f'"{_etag(data, large)}"', "X-Repo-Commit": commit}
                if name in self.rotten:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                return self._send_file(name, data, body, headers)
        return self._send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

    def _send_file(self, name: str, data: bytes, body: bool, headers: dict[str, str]) -> None:
        code, start = 200, 0
        if body and (wanted := self.headers.get("Range")):
            code, start = 206, int(wanted.removeprefix("bytes=").rstrip("-"))
            self.ranges.append((name, start))
            headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            data = data[start:]
        if body and name in self.cut:
            self._send(code, data, body, headers, self.cut.pop(name))
        elif body and name in self.held:
            self._send(code, data, body, headers, self.held.pop(name))
            self.holding.set()
            self.release.wait(60)
        else:
            self._send(code, data, body, headers)

    def _send(
        self,
        code: int,
        data: bytes,
        body: bool,
        headers: dict[str, str] | None = None,
        most: int | None = None,
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[:most])
        self.close_connection = most is not None

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.fixture
def hub(checkpoints: dict[str, Path], tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that knows no other Hub than this one."""
    for commit, name in ((COMMIT, "tiny"), (OLDER, "odd")):
        folder = Path(shutil.copytree(checkpoints[name], tmp_path / "repository" / commit))
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        (folder / "pytorch_model.bin").write_bytes(b"not to be downloaded")
        (folder / "flax_model.msgpack").write_bytes(b"nor this")
        _Hub.folders[commit] = folder
    _Hub.reset()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield {
            "HF_ENDPOINT": f"http://127.0.0.1:{httpd.server_port}",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        _Hub.release.set()
        httpd.shutdown()


def test_a_name_is_downloaded_once_and_then_works_offline(
    hub: dict[str, str], tmp_path: Path, bundles: dict[str, Path]
) -> None:
    run("export", REPO, "-o", tmp_path / "first", **hub)
    bundle = Bundle.read(tmp_path / "first")
    assert bundle.files() == Bundle.read(bundles["tiny"]).files()
    assert bundle.name == "clip-tiny"
    source = bundle.source
    assert (source.checkpoint, source.revision, source.license) == (REPO, COMMIT, "mit")
    fetched = [path for path in _Hub.asked if "/resolve/" in path]
    assert not [path for path in fetched if path.endswith((".bin", ".msgpack"))]
    _Hub.asked.clear()
    offline = hub | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    run("export", REPO, "-o", tmp_path / "second", **offline)
    assert Bundle.read(tmp_path / "second").files() == bundle.files()
    assert _Hub.asked == []


def test_a_revision_is_honoured(hub: dict[str, str], tmp_path: Path) -> None:
    run("export", f"{REPO}@v1", "-o", tmp_path / "old", **hub)
    bundle = Bundle.read(tmp_path / "old")
    assert bundle.source.revision == OLDER
    assert bundle.embedding_dim == 12


def test_a_repository_with_only_a_pickle(hub: dict[str, str], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    from tests.torch_zip import write_torch_zip

    weights = _Hub.folders[COMMIT] / "model.safetensors"
    write_torch_zip(_Hub.folders[COMMIT] / "pytorch_model.bin", load_file(weights))
    weights.unlink()
    run("export", REPO, "-o", tmp_path / "bundle", **hub)
    assert Bundle.read(tmp_path / "bundle").embedding_dim == 20


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


def fetched() -> set[str]:
    """Names of the files whose bytes were asked for."""
    places = [path.partition("/resolve/")[2] for path in _Hub.asked if "/resolve/" in path]
    return {place.partition("/")[2] for place in places}


def test_of_a_repository_in_both_layouts_one_form_of_the_weights_is_downloaded(
    hub: dict[str, str], tmp_path: Path
) -> None:
    open_clip.write_checkpoint(_Hub.folders[COMMIT])
    (_Hub.folders[COMMIT] / "open_clip_pytorch_model.bin").write_bytes(b"not wanted")
    run("export", REPO, "-o", tmp_path / "bundle", **hub)
    made = Bundle.read(tmp_path / "bundle")
    assert made.source.architecture == "open_clip VisionTransformer"
    weights = {name for name in fetched() if "model" in name}
    assert weights == {"open_clip_model.safetensors"}


def test_ready_made_graphs_are_downloaded_without_the_weights(
    hub: dict[str, str], tmp_path: Path
) -> None:
    folder = _Hub.folders[COMMIT]
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

    path = _Hub.folders[COMMIT] / WEIGHTS
    save_file(load_file(path), path, metadata={"padding": "x" * 24_000_000})
    return path.stat().st_size


def test_a_lost_connection_is_taken_up_where_it_broke(
    hub: dict[str, str], tmp_path: Path, bundles: dict[str, Path]
) -> None:
    _Hub.cut[WEIGHTS] = grow() - 100
    run("export", REPO, "-o", tmp_path / "bundle", **hub)
    assert [name for name, start in _Hub.ranges if start > 0] == [WEIGHTS]
    assert Bundle.read(tmp_path / "bundle").files() == Bundle.read(bundles["tiny"]).files()


def test_a_download_that_was_killed_leaves_nothing_half_read(
    hub: dict[str, str], tmp_path: Path, bundles: dict[str, Path]
) -> None:
    _Hub.held[WEIGHTS] = grow() - 100
    command = [sys.executable, "-m", "bareclip", "export", REPO, "-o", str(tmp_path / "bundle")]
    with subprocess.Popen(command, env=os.environ | hub, stderr=subprocess.DEVNULL) as process:
        assert _Hub.holding.wait(60)
        process.kill()
    _Hub.release.set()
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
    _Hub.rotten.add(name)
    for _ in range(2):  # a second run finds it in the cache
        found = run("export", REPO, "-o", tmp_path / "bundle", code=1, **hub)
        message = found.stderr.splitlines()[-1]  # after huggingface_hub's progress
        assert message.startswith(f"bareclip: {name} of ")
        assert not (tmp_path / "bundle").exists()
    _Hub.rotten.clear()
    advised = re.search(r"; delete (.*) and run this again", message)
    assert advised
    Path(advised[1]).unlink()
    run("export", REPO, "-o", tmp_path / "bundle", **hub)

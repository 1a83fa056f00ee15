"""Checkpoints by name, against a local server that speaks the Hub's protocol."""

import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest
from benchmarks import seeded_open_clip

from bareclip.bundle import Bundle
from tests.export.test_ready_made import write_text, write_vision
from tests.runtime.test_cli import run

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "fedcba9876543210fedcba9876543210fedcba98"
REPO = "someone/clip-tiny"
REVISIONS = {"main": COMMIT, "v1": OLDER}


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


class _Hub(http.server.BaseHTTPRequestHandler):
    """Two revisions of one repository, as huggingface_hub asks for them."""

    protocol_version = "HTTP/1.1"
    folders: ClassVar[dict[str, Path]] = {}
    asked: ClassVar[list[str]] = []

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
                tag = hashlib.sha256(data).hexdigest()
                return self._send(200, data, body, {"ETag": f'"{tag}"', "X-Repo-Commit": commit})
        return self._send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

    def _send(
        self, code: int, data: bytes, body: bool, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

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
    _Hub.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield {
            "HF_ENDPOINT": f"http://127.0.0.1:{httpd.server_port}",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
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
    seeded_open_clip.write_checkpoint(_Hub.folders[COMMIT])
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
    (folder / "onnx" / "vision_model_quantized.onnx").write_bytes(b"not wanted")
    run("import", REPO, "-o", tmp_path / "bundle", **hub)
    assert Bundle.read(tmp_path / "bundle").source.revision == COMMIT
    graphs = {name for name in fetched() if name.startswith("onnx/")}
    assert graphs == {"onnx/vision_model.onnx", "onnx/text_model.onnx"}
    assert "model.safetensors" not in fetched()
    offline = hub | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    run("import", REPO, "-o", tmp_path / "again", **offline)
    assert Bundle.read(tmp_path / "again").files() == Bundle.read(tmp_path / "bundle").files()

"""A local server that speaks the Hub's protocol, as huggingface_hub asks: to read and to write."""

import base64
import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "fedcba9876543210fedcba9876543210fedcba98"
REPO = "someone/clip-tiny"
WRITER = "hf_may_write"
_LARGE = (".safetensors", ".onnx", ".data")


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def _etag(data: bytes, large: bool) -> str:
    """What the Hub says of a file: the SHA-256 of a large one, Git's name of another."""
    if large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """Repositories and their revisions, as huggingface_hub asks for them.

    Attributes:
        repositories: Name -> revision -> commit.
        folders: Commit -> its files.
        private, gated: Repositories that only WRITER may read; that no one may.
        asked: Paths of all requests.
        cut: Files of which the connection's end leaves that many bytes, once.
        held: Files of which that many bytes come, and then nothing until ``release``.
        rotten: Files whose bytes are not those of their checksum.
        etags: Files that have another checksum than theirs.
        ranges: Files asked for from a byte on, and that byte.
        uploaded: Large files by SHA-256.
        lies: Headers, and "sha" of a repository's description, that are not the truth.
    """

    protocol_version = "HTTP/1.1"
    repositories: ClassVar[dict[str, dict[str, str]]] = {}
    folders: ClassVar[dict[str, Path]] = {}
    private: ClassVar[set[str]] = set()
    gated: ClassVar[set[str]] = set()
    asked: ClassVar[list[str]] = []
    cut: ClassVar[dict[str, int]] = {}
    held: ClassVar[dict[str, int]] = {}
    rotten: ClassVar[set[str]] = set()
    etags: ClassVar[dict[str, str]] = {}
    ranges: ClassVar[list[tuple[str, int]]] = []
    uploaded: ClassVar[dict[str, bytes]] = {}
    lies: ClassVar[dict[str, str]] = {}
    pushed: ClassVar[Path]
    holding: ClassVar[threading.Event]
    release: ClassVar[threading.Event]

    @classmethod
    def reset(cls, pushed: Path) -> None:
        for noted in (
            cls.repositories, cls.folders, cls.private, cls.gated, cls.asked, cls.cut, cls.held,
            cls.rotten, cls.etags, cls.ranges, cls.uploaded, cls.lies,
        ):  # fmt: skip
            noted.clear()
        cls.pushed = pushed
        cls.holding, cls.release = threading.Event(), threading.Event()

    @property
    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {WRITER}"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        repo = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        if repo not in self.repositories or (repo in self.private and not self._may_write):
            return self._refuse(401 if repo in self.private else 404, "RepoNotFound", body)
        if repo in self.gated:
            return self._refuse(403, "GatedRepo", body)
        if path.startswith("/api/models/"):
            return self._describe(repo, path.removeprefix(f"/api/models/{repo}"), body)
        revision, _, name = path.removeprefix(f"/{repo}/resolve/").partition("/")
        commit = self.repositories[repo].get(revision, revision)
        if commit not in self.repositories[repo].values():
            return self._refuse(404, "RevisionNotFound", body)
        file = self.folders[commit] / name
        if not file.is_file():
            return self._refuse(404, "EntryNotFound", body)
        data = file.read_bytes()
        etag = self.etags.get(name) or _etag(data, name.endswith(_LARGE))
        if name in self.rotten:
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit}
        headers |= {header: lie for header, lie in self.lies.items() if header != "sha"}
        self._send_file(name, data, body, headers)

    def _describe(self, repo: str, path: str, body: bool) -> None:
        route, _, revision = path.rpartition("/")
        commit = self.repositories[repo].get(revision or "main", revision)
        if commit not in self.repositories[repo].values():
            return self._refuse(404, "RevisionNotFound", body)
        files = _files(self.folders[commit])
        if route == "/tree":
            listed = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": path.name}
                for name, path in files.items()
            ]
            return self._send(200, json.dumps(listed).encode(), body)
        info = {
            "id": repo, "sha": self.lies.get("sha", commit), "private": repo in self.private,
            "tags": [],
            "siblings": [{"rfilename": name} for name in files],
        }  # fmt: skip
        self._send(200, json.dumps(info).encode(), body)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "/api/validate-yaml":
            return self._send(200, b'{"errors": [], "warnings": []}', True)
        if not self._may_write:
            return self._refuse(403, "", True)
        if path == "/api/repos/create":
            return self._create(json.loads(sent))
        repo = "/".join(path.removeprefix("/api/models").split("/")[1:3]).removesuffix(".git")
        if path.endswith("/preupload/main"):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(_LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(sent)["files"]
            ]
            return self._send(200, json.dumps({"files": modes}).encode(), True)
        if path.endswith("/info/lfs/objects/batch"):
            address = f"http://{self.headers['Host']}/uploads/"
            objects = [
                file
                if file["oid"] in self.uploaded
                else file | {"actions": {"upload": {"href": address + file["oid"]}}}
                for file in json.loads(sent)["objects"]
            ]
            answer = {"transfer": "basic", "objects": objects}
            return self._send(200, json.dumps(answer).encode(), True)
        if path.endswith("/commit/main"):
            return self._commit(repo, [json.loads(line) for line in sent.splitlines()])
        return self._refuse(404, "RepoNotFound", True)

    def do_PUT(self) -> None:
        oid = self.path.rpartition("/")[2]
        self.asked.append(self.path)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(data).hexdigest() == oid
        self.uploaded[oid] = data
        self._send(200, b"", True)

    def _create(self, wanted: dict[str, Any]) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}"
        answer = json.dumps({"url": f"http://{self.headers['Host']}/{repo}"}).encode()
        if repo in self.repositories:
            return self._send(409, answer, True)
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.private.add(repo)
        self._add(repo, {".gitattributes": b""})
        self._send(200, answer, True)

    def _commit(self, repo: str, operations: list[dict[str, Any]]) -> None:
        files = {}
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "lfsFile":
                files[value["path"]] = self.uploaded[value["oid"]]
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        commit = self._add(repo, files)
        address = f"http://{self.headers['Host']}/{repo}/commit/{commit}"
        answer = {"success": True, "commitOid": commit, "commitUrl": address}
        self._send(200, json.dumps(answer).encode(), True)

    @classmethod
    def _add(cls, repo: str, files: dict[str, bytes]) -> str:
        """A commit on top of the last."""
        commit = hashlib.sha1(f"{repo} {len(cls.folders)}".encode()).hexdigest()
        folder = cls.pushed / commit
        folder.mkdir(parents=True)
        if before := cls.repositories.get(repo, {}).get("main"):
            shutil.copytree(cls.folders[before], folder, dirs_exist_ok=True)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        cls.folders[commit] = folder
        cls.repositories.setdefault(repo, {})["main"] = commit
        return commit

    def _refuse(self, code: int, error: str, body: bool) -> None:
        self._send(code, b"{}", body, {"X-Error-Code": error} if error else None)

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


def fetched() -> set[str]:
    """Names of the files that were asked for."""
    places = [path.partition("/resolve/")[2] for path in Hub.asked if "/resolve/" in path]
    return {place.partition("/")[2] for place in places}


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that knows no other Hub than this one.

    Args:
        folder: For the client's cache, and for what is pushed.
    """
    Hub.reset(folder / "pushed")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield {
            "HF_ENDPOINT": f"http://127.0.0.1:{httpd.server_port}",
            "HF_HOME": str(folder / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",  # it has a protocol of its own
        }
        Hub.release.set()
        httpd.shutdown()

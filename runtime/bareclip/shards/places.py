"""Folders and files by their addresses: local ones, S3, Google Cloud, and what fsspec opens.

A file is written whole or not at all: by one rename where it is local, by one PUT elsewhere.
"""

import contextlib
import io
import os
import secrets
import time
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa
import pyarrow.fs

from ..errors import ShardError
from ..files import replacing

# Requests to S3 that are tried again before a run is told, with pauses that grow.
_ATTEMPTS = 10
# Seconds before the second and later tries of what a store's client does not try again itself.
_PAUSES = (0.2, 1.0, 5.0)


class UnwritableError(ShardError):
    """The run's folder cannot be written, so that no shard of it could be done."""


@dataclass(frozen=True)
class Found:
    """A file that a listing has: its address, its size, and when it was written.

    Attributes:
        modified: In nanoseconds since 1970; None where the store does not say.
    """

    uri: str
    size: int
    modified: int | None

    @property
    def version(self) -> "Version":
        return Version(self.size, None if self.modified is None else f"time {self.modified}")


@dataclass(frozen=True)
class Place:
    """A file or a folder, which need not be there.

    Attributes:
        uri: An absolute path, with ``/`` on Windows too, or an address such as ``s3://bucket/run``.
    """

    uri: str

    @classmethod
    def at(cls, name: str | os.PathLike[str]) -> "Place":
        """The place that a user names."""
        text = os.fspath(name)
        if text.startswith("file://"):
            text = url2pathname(urlsplit(text).path)
        if is_local(text):
            path = os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111
            return cls(path.replace(os.sep, "/"))
        return cls(text.rstrip("/"))

    @property
    def local(self) -> bool:
        return is_local(self.uri)

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    @property
    def parent(self) -> "Place":
        return Place(self.uri.rpartition("/")[0])

    def __truediv__(self, name: str) -> "Place":
        return Place(f"{self.uri}/{name}")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        if self.local:
            return _local(), self.uri
        scheme, _, rest = self.uri.partition("://")
        filesystem = _remote(scheme, rest.partition("/")[0])
        return filesystem, rest

    def info(self) -> Found | None:
        """Its size and time; None where there is no such file."""
        filesystem, path = self._opened
        found = _asked(self.uri, filesystem.get_file_info, path)
        return _found(self.uri, found) if found.type == pa.fs.FileType.File else None

    def is_folder(self) -> bool:
        filesystem, path = self._opened
        found = _asked(self.uri, filesystem.get_file_info, path)
        return bool(found.type == pa.fs.FileType.Directory)

    def files(self, recursive: bool = False) -> list[Found]:
        """The files in it, sorted; none where there is no such folder."""
        filesystem, path = self._opened
        selector = pa.fs.FileSelector(path, allow_not_found=True, recursive=recursive)
        prefix = self.uri[: len(self.uri) - len(path)]
        # fsspec begins some paths with a slash that the address has not.
        spare = "" if path.startswith("/") else "/"
        listed = _asked(self.uri, filesystem.get_file_info, selector)
        try:
            found = [
                _found(prefix + one.path.removeprefix(spare), one)
                for one in listed
                if one.type == pa.fs.FileType.File
            ]
        except UnicodeDecodeError as error:
            name = os.fsdecode(error.object).encode(errors="replace").decode()
            raise ShardError(
                f"{name} has a name that is not UTF-8, which Parquet cannot hold: rename it"
            ) from error
        return sorted(found, key=lambda one: one.uri)

    def listed_version(self) -> "Version":
        """As ``version``, of what a listing says, without an ETag; size 0 where it is gone."""
        info = self.info()
        return Version(0, None) if info is None else info.version

    def version(self) -> "Version | None":
        """What tells whether it was written since; None where there is no such file."""
        info = self.info()
        if info is None:
            return None
        if not self.local:
            filesystem, path = self._opened
            with _asked(self.uri, filesystem.open_input_stream, path) as stream:
                tag = (stream.metadata() or {}).get("ETag")
            if tag:
                return Version(info.size, f"etag {tag.decode().strip(chr(34))}")
        return info.version

    def open(self) -> Any:
        """The file, to read from any place in it, in Python's manner.

        Raises:
            ShardError: It cannot be read.
        """
        filesystem, path = self._opened
        file = _asked(self.uri, filesystem.open_input_file, path)
        return file if self.local else _Steady(file)

    def read(self) -> bytes:
        """All of a file.

        Raises:
            ShardError: It cannot be read.
        """
        with self.open() as file:
            data: bytes = _asked(self.uri, file.read)
        return data

    def write(self, data: bytes, *, new: bool = False) -> None:
        """Puts a file there, whole or not at all.

        Args:
            data: All of it.
            new: Where there is a file, leave that one; sure on a local disk only, since object
                stores let the last writer win.

        Raises:
            UnwritableError: It cannot be written.
        """
        try:
            if self.local:
                _write_local(Path(self.uri), data, new)
            elif not (new and self.info()):
                self._put(data)
        except (OSError, pa.ArrowException) as error:
            raise UnwritableError(f"cannot write {self.uri}: {_line(error)}") from error

    def _put(self, data: bytes) -> None:
        filesystem, path = self._opened

        def put() -> None:
            # One write: were a stream closed after an error, it would commit what it has.
            stream = filesystem.open_output_stream(path)
            stream.write(data)
            stream.close()

        _steadily(put)  # a commit whose answer was lost is not tried again by itself

    def delete(self) -> None:
        """Removes a file; that it is gone already is no error."""
        filesystem, path = self._opened
        try:
            filesystem.delete_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ShardError(f"cannot remove {self.uri}: {_line(error)}") from error


@dataclass(frozen=True)
class Version:
    """What tells whether a file was written since it was planned.

    Attributes:
        tag: ``etag ...`` where the store has one, else ``time ...``, in nanoseconds.
    """

    size: int
    tag: str | None


class _Steady(io.RawIOBase):
    """A remote file; an answer that is cut short on its way is asked for again."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file, self._size = file, file.size()
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        before = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = before + offset
        return self._place

    def read(self, count: int | None = -1) -> bytes:
        left = max(0, self._size - self._place)
        wanted = left if count is None or count < 0 else min(count, left)
        data: bytes = _steadily(self._file.read_at, wanted, self._place) if wanted else b""
        self._place += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _steadily(call: Any, *arguments: Any) -> Any:
    for pause in _PAUSES:
        try:
            return call(*arguments)
        except OSError:
            time.sleep(pause)
    return call(*arguments)


def is_local(uri: str) -> bool:
    return "://" not in uri


def _found(uri: str, info: Any) -> Found:
    return Found(uri, info.size, info.mtime_ns)


@cache
def _local() -> Any:
    return pa.fs.LocalFileSystem()


@cache
def _remote(scheme: str, bucket: str) -> Any:
    try:
        if scheme == "s3":
            return _s3(bucket)
        return pa.fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _of_fsspec(scheme)
    except OSError as error:
        raise ShardError(f"cannot open {scheme}://{bucket}: {_line(error)}") from error


def _s3(bucket: str) -> Any:
    """S3, or what speaks like it at ``AWS_ENDPOINT_URL``."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    retries = pa.fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS)
    if not endpoint:
        region = region or pa.fs.resolve_s3_region(bucket)
        return pa.fs.S3FileSystem(region=region, retry_strategy=retries)
    parts = urlsplit(endpoint)
    return pa.fs.S3FileSystem(
        region=region or "us-east-1",
        scheme=parts.scheme,
        endpoint_override=parts.netloc,
        retry_strategy=retries,
    )


def _of_fsspec(scheme: str) -> Any:
    try:
        import fsspec

        handler = pa.fs.FSSpecHandler(fsspec.filesystem(scheme))
    except (ImportError, ValueError) as error:
        raise ShardError(
            f"cannot open {scheme}:// ({_line(error)}): pyarrow knows s3, gs, abfs and hdfs; for "
            "others install fsspec and what it names"
        ) from error
    return pa.fs.PyFileSystem(handler)


def _write_local(path: Path, data: bytes, new: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if new:
        # A link, unlike a rename, never takes the place of another's file.
        whole = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            whole.write_bytes(data)
            with contextlib.suppress(FileExistsError):
                os.link(whole, path)
        finally:
            whole.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        file.write(data)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Has a rename survive a power cut; Windows cannot, and need not."""
    if os.name == "nt":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _asked(uri: str, call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"cannot use {uri}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

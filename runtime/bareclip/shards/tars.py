"""WebDataset tars, read once from front to back: a picture at a time, whatever their size.

A sample is what lies side by side under one key, the name up to its first dot after the last
slash: ``a/b.jpg`` with ``a/b.txt``, its caption, and ``a/b.json``, which may have both caption
and url.
"""

import json
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from ..errors import ShardError
from ..images.folders import is_image_name
from ..images.limits import MAX_FILE_BYTES
from .places import Place
from .records import About, Damage, Record, utf8

# What is fetched of a remote tar at a time, twice: one piece in use and the next under way.
_PIECE = 8 * 1024 * 1024
# Of a sample's texts; larger ones are not captions.
_LARGEST_TEXT = 1 << 20


def read_tar(place: Place, size: int, damaged: Callable[[Damage], None]) -> Iterator[Record]:
    """The pictures of a tar, in its order.

    What they say of themselves (``Record.about``) is complete once a picture of another sample
    has been taken.

    Args:
        place: Where it lies.
        size: Its bytes.
        damaged: Told where the tar could not be read on, if so, before the iteration ends.

    Raises:
        ShardError: It cannot be read at all.
    """
    count = offset = 0
    with _opened(place, size) as file:
        sample, about, taken = "", About(), False
        try:
            archive = _Archive.over(file)
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it keeps them all
                offset = min(archive.offset, size)
                key, ending = split_name(member.name)
                if member.isdir() or not key:
                    continue
                if key != sample:
                    sample, about, taken = key, About(), False
                if is_image_name(member.name):
                    # A second picture of a sample goes by its whole name.
                    record = _record(archive, member, member.name if taken else key, place, about)
                    taken = True
                    count += 1
                    yield record
                elif ending in ("txt", "json") and member.size <= _LARGEST_TEXT:
                    _tell(about, ending, _data(archive, member))
            archive.check_end()
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            damaged(Damage(place.uri, offset, count, _reason(error)))


def split_name(name: str) -> tuple[str, str]:
    """A member's key and the rest of its name; no key for what WebDataset leaves out.

    Examples:
        >>> split_name("train/0001.left.JPG"), split_name("train/.hidden")
        (('train/0001', 'left.jpg'), ('', ''))
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, ending = base.partition(".")
    return (f"{folder}{slash}{stem}", ending.lower()) if stem and dot else ("", "")


class _Archive(tarfile.TarFile):
    """A tar that says how it ended: tarfile takes damage in the middle for the end."""

    why: str | None = "it ends without an end marker"

    @classmethod
    def over(cls, file: Any) -> "_Archive":
        archive: Any = cls.open(fileobj=file, mode="r|", bufsize=1 << 20, tarinfo=_Member)
        assert isinstance(archive, _Archive)
        return archive

    def check_end(self) -> None:
        """Refuses an end that is none.

        Raises:
            tarfile.ReadError: Damage, or more data, follows what was read.
        """
        if self.why is not None:
            raise tarfile.ReadError(self.why)
        stream: Any = self.fileobj
        while rest := stream.read(1 << 20):
            if rest.count(0) != len(rest):
                raise tarfile.ReadError("more data follows its end marker")


class _Member(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Any:
        assert isinstance(archive, _Archive)
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            archive.why = None
            raise
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            archive.why = f"a header is damaged: {error}"
            raise


def _record(
    archive: _Archive, member: tarfile.TarInfo, key: str, place: Place, about: About
) -> Record:
    record = Record(utf8(key), place.uri, member.offset_data, about)
    if not member.isreg() or member.issparse():
        record.error = "it is no regular file within its tar"
    elif member.size > MAX_FILE_BYTES:
        record.error = f"it has {member.size:,} bytes, more than {MAX_FILE_BYTES:,}"
    else:
        data = _data(archive, member)
        if len(data) < member.size:
            record.error = "it is cut short: its tar ends within it"
        else:
            record.fetch = lambda: data
    return record


def _data(archive: _Archive, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        return b""
    try:
        return file.read()
    except tarfile.ReadError:
        return b""  # the next header is not there either, which ends the iteration


def _tell(about: About, ending: str, data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    if ending == "txt":
        about.caption = text.strip()
        return
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(told, dict):
        caption, url = told.get("caption"), told.get("url")
        if about.caption is None and isinstance(caption, str):
            about.caption = caption
        if isinstance(url, str):
            about.url = url


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _opened(place: Place, size: int) -> Iterator[Any]:
    if place.local:
        try:
            file = open(place.uri, "rb")  # noqa: PTH123, SIM115
        except OSError as error:
            raise ShardError(f"cannot read {place.uri}: {error.strerror}") from error
        with file:
            yield file
        return
    with place.open() as remote, ThreadPoolExecutor(1, "bareclip-fetch") as pool:
        yield _Ahead(remote, size, pool, place.uri)


class _Ahead:
    """A remote file from front to back, its next piece fetched while one is used."""

    def __init__(self, file: Any, size: int, pool: ThreadPoolExecutor, uri: str) -> None:
        self._file, self._size, self._pool, self._uri = file, size, pool, uri
        self._start = 0
        self._piece = memoryview(b"")
        self._next = self._fetch()

    def read(self, count: int) -> bytes:
        taken = []
        while count > 0:
            if not self._piece:
                self._piece = memoryview(self._result())
                self._next = self._fetch()
                if not self._piece:
                    break
            taken.append(self._piece[:count])
            self._piece = self._piece[count:]
            count -= len(taken[-1])
        return b"".join(taken)

    def _fetch(self) -> "Future[bytes]":
        start, self._start = self._start, min(self._start + _PIECE, self._size)
        return self._pool.submit(self._file.read, self._start - start)

    def _result(self) -> bytes:
        try:
            return self._next.result()
        except OSError as error:
            raise ShardError(f"cannot read {self._uri}: {_reason(error)}") from error


def is_tar(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() == ".tar"

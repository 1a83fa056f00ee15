"""What sources hold, and how it is cut: the work of ``plan``."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import chain, pairwise
from pathlib import Path
from typing import TypeVar

from ..errors import ShardError
from ..images.folders import EXCLUDED, is_image_name, lies_in_excluded, list_images
from .distinct import twice
from .places import Found, Place, Version
from .plans import Piece, Shard
from .tables import Columns, Described, describe, read_keys
from .tars import is_tar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# Requests to a store at a time.
_REQUESTS = 32


def shards_of(
    sources: Sequence[str | os.PathLike[str]],
    rows: int,
    image_column: str | None,
    key_column: str | None,
    exclude: Iterable[str] | None,
) -> tuple[list[Shard], Columns | None]:
    """As ``plan``; shards and the columns of Parquet sources.

    Raises:
        ShardError: As ``plan`` raises.
    """
    patterns = EXCLUDED if exclude is None else tuple(exclude)
    found = [one for source in sources for one in _expanded(os.fspath(source), patterns)]
    found.sort(key=lambda one: one.uri)
    for one, following in pairwise(found):
        if one.uri == following.uri:
            raise ShardError(f"{one.uri} is among the sources twice; give it once")
    tars = [one for one in found if is_tar(one.uri)]
    tables = [one for one in found if _is_table(one.uri)]
    pictures = [one for one in found if not is_tar(one.uri) and not _is_table(one.uri)]
    described = _in_threads(lambda one: describe(Place(one.uri), image_column, key_column), tables)
    columns = _common_columns(tables, described)
    cut = [*_of_tars(tars), *_of_tables(tables, described, rows), *_of_pictures(pictures, rows)]
    if columns is not None:
        _check_keys(tables, pictures, columns)
    return [Shard(index, tuple(pieces)) for index, pieces in enumerate(cut)], columns


def _expanded(source: str, patterns: tuple[str, ...]) -> list[Found]:
    """The files that a source stands for."""
    place = Place.at(source)
    if (info := place.info()) is not None:
        if is_tar(place.name) or _is_table(place.name) or is_image_name(place.name):
            return [info]
        raise ShardError(
            f"{place.uri} is neither a .tar, a .parquet nor a picture by its name; give those, or "
            "a folder"
        )
    if any(sign in place.name for sign in "*?["):
        return _matching(place)
    if not place.is_folder():
        raise ShardError(f"there is no {place.uri}; give a folder, a .tar or a .parquet")
    return _in_folder(place, patterns)


def _matching(place: Place) -> list[Found]:
    found = [
        one
        for one in place.parent.files()
        if fnmatchcase(Place(one.uri).name, place.name)
        and (is_tar(one.uri) or _is_table(one.uri) or is_image_name(one.uri))
    ]
    if not found:
        raise ShardError(f"nothing is named {place.uri} that is a .tar, a .parquet or a picture")
    return found


def _in_folder(place: Place, patterns: tuple[str, ...]) -> list[Found]:
    listed = place.files(recursive=True)
    kept = [one for one in listed if not lies_in_excluded(one.uri[len(place.uri) + 1 :], patterns)]
    tars = [one for one in kept if is_tar(one.uri)]
    pictures = [one for one in kept if is_image_name(one.uri)]
    if tars and pictures:
        raise ShardError(
            f"{place.uri} has both tars and pictures ({tars[0].uri}, {pictures[0].uri}): name "
            f"those that are meant, such as '{place.uri}/*.tar'"
        )
    if tars:  # and Parquet files beside them, as img2dataset writes them, are about those
        return tars
    if place.local:
        return _local_pictures(place, patterns) or [one for one in kept if _is_table(one.uri)]
    return pictures or [one for one in kept if _is_table(one.uri)]


def _local_pictures(place: Place, patterns: tuple[str, ...]) -> list[Found]:
    """As the photo index lists them: links followed, and each folder entered once."""
    found = []
    for path in list_images(Path(place.uri), patterns).files:
        try:
            status = path.stat()
        except OSError:  # a broken link: its row will say so
            found.append(Found(path.as_posix(), 0, None))
            continue
        found.append(Found(path.as_posix(), status.st_size, status.st_mtime_ns))
    return found


def _is_table(uri: str) -> bool:
    return uri.lower().endswith((".parquet", ".pq"))


def _of_tars(found: Sequence[Found]) -> Iterator[list[Piece]]:
    versions = _in_threads(lambda one: _version(one.uri), found)
    for one, version in zip(found, versions, strict=True):
        yield [Piece("tar", one.uri, version, 0, None, version.size)]


def _of_tables(
    found: Sequence[Found], described: Sequence[Described], rows: int
) -> Iterator[list[Piece]]:
    versions = _in_threads(lambda one: _version(one.uri), found)
    for one, about, version in zip(found, described, versions, strict=True):
        total = sum(about.groups)
        for first, count in _cuts(about.groups, rows):
            share = version.size * count // max(1, total)
            yield [Piece("parquet", one.uri, version, first, count, share)]


def _cuts(groups: Sequence[int], rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most so many rows; of whole row groups, where these are no larger."""
    first = count = 0
    for size in groups:
        if count and count + size > rows:
            yield first, count
            first, count = first + count, 0
        count += size
        while count > rows:
            yield first, rows
            first, count = first + rows, count - rows
    if count:
        yield first, count


def _of_pictures(found: Sequence[Found], rows: int) -> Iterator[list[Piece]]:
    for start in range(0, len(found), rows):
        yield [
            Piece(
                "picture",
                one.uri,
                one.version,
                0,
                1,
                one.size,
            )
            for one in found[start : start + rows]
        ]


def _version(uri: str) -> Version:
    version = Place(uri).version()
    if version is None:
        raise ShardError(f"{uri} was listed and is gone; plan again")
    return version


def _common_columns(found: Sequence[Found], described: Sequence[Described]) -> Columns | None:
    columns = None
    for one, about in zip(found, described, strict=True):
        columns = columns or about.columns
        if about.columns != columns:
            raise ShardError(
                f"{one.uri} has {_told(about.columns)} where {found[0].uri} has "
                f"{_told(columns)}: plan them apart"
            )
    return columns


def _told(columns: Columns) -> str:
    return ", ".join(f"{name} in {value!r}" for name, value in vars(columns).items() if value)


def _check_keys(tables: Sequence[Found], pictures: Sequence[Found], columns: Columns) -> None:
    """Refuses keys that occur twice; those of tars are only known when they are read."""
    found = twice(
        lambda: chain(
            (one.uri for one in pictures),
            chain.from_iterable(read_keys(Place(one.uri), columns) for one in tables),
        )
    )
    if found:
        several = f", and {len(found) - 1} other keys" if len(found) > 1 else ""
        raise ShardError(
            f"key {found[0]!r} is among the sources twice{several}: name another column with "
            "--key-column, or leave the second source out"
        )


def _in_threads(call: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    if not items:
        return []
    with ThreadPoolExecutor(min(_REQUESTS, len(items)), "bareclip-plan") as pool:
        return list(pool.map(call, items))

"""What a source holds, counted anew: not by what read it when it was embedded.

Tars are read by tarfile, whole file by whole file, names alone; their samples are told apart by
WebDataset's own expression.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterator

from ..errors import ShardError
from ..images.folders import is_image_name
from .places import Place
from .plans import Piece, Plan
from .records import utf8
from .tables import read_keys

# webdataset/tariterators.py: base_plus_ext.
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)

# Bytes that are read of a tar at a time, to look at its headers.
_BUFFER = 1 << 16


def keys_of(plan: Plan, piece: Piece) -> Iterator[str]:
    """The keys of the pictures that a piece of a source holds, in order.

    Raises:
        ShardError: It cannot be read.
    """
    place = Place(piece.source)
    if piece.kind == "tar":
        yield from _of_tar(place)
    elif piece.kind == "picture":
        yield piece.source
    else:
        assert plan.info.columns is not None
        end = piece.first + (piece.rows or 0)
        for row, key in enumerate(read_keys(place, plan.info.columns)):
            if row >= end:
                return
            if row >= piece.first:
                yield key


def _of_tar(place: Place) -> Iterator[str]:
    before = None
    try:
        with (
            io.BufferedReader(place.open(), _BUFFER) as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]
                found = _NAME.match(member.name)
                if found is None or member.isdir():
                    continue
                if is_image_name(member.name):
                    again = found[1] == before
                    before = found[1]
                    yield utf8(member.name if again else found[1])
    except tarfile.TarError:
        return  # what lies behind damage is in no row; the footer says where
    except OSError as error:
        raise ShardError(f"cannot read {place.uri}: {error}") from error


def img2dataset_count(piece: Piece) -> int | None:
    """How many pictures img2dataset says that it put into a tar; None where it says nothing."""
    if piece.kind != "tar":
        return None
    place = Place(piece.source)
    beside = place.parent / f"{place.name.rpartition('.')[0]}_stats.json"
    if beside.info() is None:
        return None
    try:
        count = json.loads(beside.read())["successes"]
    except (ValueError, KeyError, TypeError):
        return None
    return count if type(count) is int else None

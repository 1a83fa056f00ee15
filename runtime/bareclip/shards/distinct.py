"""Which of very many keys occur twice, in memory that does not grow with them."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import IO

import numpy as np
from numpy.typing import NDArray

# Keys go to so many files by their hashes, and each file is sorted alone: of a billion keys, one
# has 4 million and takes 64 MB.
_FILES = 256
_HASH = 16
# Of a file's hashes that wait in memory.
_BUFFER = 1024


def twice(keys: Callable[[], Iterable[str]], most: int = 20) -> list[str]:
    """Keys that occur more than once.

    Their hashes, 128 bits of BLAKE2b, lie in temporary files meanwhile: 16 bytes per key.

    Args:
        keys: Gives them; called again where some occur twice, to name those.
        most: How many are named.

    Returns:
        In the order of their second occurrence.

    Examples:
        >>> twice(lambda: ["a", "b", "a"])
        ['a']
    """
    again = _hashes_twice(keys())
    if not again:
        return []
    seen: set[bytes] = set()
    found: list[str] = []
    for key in keys():
        hashed = _hash(key)
        if hashed in again:
            if hashed in seen and key not in found:
                found.append(key)
            seen.add(hashed)
        if len(found) == most:
            break
    return found


def _hashes_twice(keys: Iterable[str]) -> set[bytes]:
    waiting: list[list[bytes]] = [[] for _ in range(_FILES)]
    with ExitStack() as stack:
        files: list[IO[bytes] | None] = [None] * _FILES

        def flush(place: int) -> None:
            file = files[place]
            if file is None:
                file = files[place] = stack.enter_context(tempfile.TemporaryFile())
            file.write(b"".join(waiting[place]))
            waiting[place] = []

        for key in keys:
            hashed = _hash(key)
            mine = waiting[hashed[0]]
            mine.append(hashed)
            if len(mine) == _BUFFER:
                flush(hashed[0])
        found: set[bytes] = set()
        for place, file in enumerate(files):
            data = b"".join(waiting[place])
            if file is not None:
                file.seek(0)
                data = file.read() + data
            found.update(_repeated(data))
        return found


def _repeated(data: bytes) -> Iterator[bytes]:
    rows: NDArray[np.void] = np.sort(np.frombuffer(data, f"S{_HASH}"))
    for row in np.unique(rows[1:][rows[1:] == rows[:-1]]):
        yield bytes(row).ljust(_HASH, b"\0")  # NumPy strips zeros at the end


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_HASH).digest()

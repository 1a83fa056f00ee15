"""NumPy's .npz, read strictly: a file from anywhere gives arrays of numbers, or one reason."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_ENDING = ".npy"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_npz(file: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes arrays of numbers as ``numpy.savez`` does: uncompressed, each with a checksum."""
    np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy 2's stubs think of allow_pickle


def read_npz(file: BinaryIO, only: str | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a file that ``write_npz`` wrote.

    Nothing is unpickled, and no more memory is taken than the file itself has: what is
    compressed, or claims another size than it has, is refused before room is made for it.

    Args:
        file: A regular one, or bytes.
        only: The name of one array, where the others are not wanted.

    Returns:
        Arrays, read-only, in the order of the file.

    Raises:
        ValueError: It is cut off, damaged, or holds something else.
        OSError: It cannot be read.
    """
    most = file.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if len(members) < len(archive.infolist()):
                raise ValueError("it holds two arrays of one name")
            return {
                name.removesuffix(_ENDING): _array(archive, member, most)
                for name, member in members.items()
                if only is None or name == only + _ENDING
            }
    except (ValueError, OSError):
        raise
    except Exception as error:  # zipfile raises nearly anything on damaged files
        raise ValueError(str(error) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> NDArray[Any]:
    name = member.filename
    if not name.endswith(_ENDING):
        raise ValueError(f"{name[:40]!r} in it is no array")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > most:
        raise ValueError(f"{name[:40]!r} in it is compressed")
    data = archive.read(member)  # which compares the checksum
    file = io.BytesIO(data)
    read_header = _HEADERS.get(np.lib.format.read_magic(file))
    if read_header is None:
        raise ValueError(f"{name[:40]!r} in it has another header than arrays of numbers have")
    shape, fortran, dtype = read_header(file)
    if dtype.kind not in "iuf" or fortran:
        raise ValueError(f"{name[:40]!r} in it holds {dtype}, not numbers row by row")
    numbers = np.frombuffer(memoryview(data)[file.tell() :], np.uint8)
    # In Python's integers, which no product overflows.
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != len(numbers) or min(shape, default=0) < 0:
        raise ValueError(f"{name[:40]!r} in it has {len(numbers)} bytes for {shape} {dtype}")
    found = np.frombuffer(numbers.tobytes(), dtype).reshape(shape)
    return found

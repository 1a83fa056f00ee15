"""HEIC pictures, as phones take them: read where pillow-heif is installed, named where not."""

from functools import cache
from typing import BinaryIO

EXTRA = "bareclip[heif]"
NEEDS_EXTRA = f"it is a HEIC picture, and those need pillow-heif: pip install '{EXTRA}'"
HEIF_ENDINGS = frozenset({".heic", ".heif", ".hif"})

# Of pictures and sequences in HEVC: ISO/IEC 23008-12, annex B.4.
_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
# Of any codec, AVIF's too: the compatible brands say which.
_ANY_CODEC = {b"mif1", b"msf1"}


@cache
def register_heif() -> bool:
    """Teaches Pillow to read HEIC, once; False where pillow-heif is not installed."""
    try:
        # By name: where another thread's import has failed, a module without it may be left.
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def is_heif(file: BinaryIO) -> bool:
    """Whether a file begins as a HEIC picture does; it is left at its start."""
    file.seek(0)
    head = file.read(64)
    file.seek(0)
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head))
    compatible = {head[place : place + 4] for place in range(16, end, 4)}
    major = head[8:12]
    return major in _HEVC or (major in _ANY_CODEC and not _HEVC.isdisjoint(compatible))


def check_heif(file: BinaryIO) -> None:
    """Says what is missing where a file is HEIC, by its first bytes.

    Raises:
        ValueError: It is, and pillow-heif is not installed.
    """
    if is_heif(file) and not register_heif():
        raise ValueError(NEEDS_EXTRA)

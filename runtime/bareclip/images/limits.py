"""How much of a picture is decoded, and how much at once; looked at before anything is decoded."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Pixels of one picture, as decoded: what cameras of 100 megapixels, and phones of 108, make.
MAX_PIXELS = 108 * 1024 * 1024
# A JPEG that is decoded small is read whole all the same: how many times more pixels it may have.
# The coefficients of a progressive one are all in memory, 2 bytes for each, at any scale.
_DRAFTED, _DRAFTED_PROGRESSIVE = 8, 2

# Scans of a gigabyte exist, sparse files of a terabyte too.
MAX_FILE_BYTES = 1 << 30

# What decoders hold besides what they hand over, as measured: times as many pixels of 4 bytes.
_HELD = {"WEBP": 3, "AVIF": 2, "HEIF": 2, "JPEG2000": 4}


class TooManyPixelsError(ValueError):
    """A picture is larger than may be decoded."""


def held_pixels(pixels: int, kind: str | None) -> int:
    """What decoding a picture of a format holds in memory, in pixels of 4 bytes."""
    return pixels * _HELD.get(kind or "", 1)


def check_pixels(size: tuple[int, int], kind: str | None, limit: int) -> None:
    """Refuses a picture that is larger than may be decoded.

    Args:
        size: Width and height.
        kind: Its format, in Pillow's name.
        limit: Pixels, of formats that are decoded without further copies of all of them.

    Raises:
        TooManyPixelsError: It is larger.
    """
    width, height = size
    if held_pixels(width * height, kind) > limit:
        most = limit // held_pixels(1, kind)
        raise TooManyPixelsError(
            f"it has {width}x{height} pixels, more than the {most:,} of {kind or 'a picture'} "
            "that are decoded: scale it down first, if it is no decompression bomb"
        )


def check_drafted(size: tuple[int, int], progressive: bool, limit: int) -> None:
    """As ``check_pixels``, of the whole of a JPEG that is decoded small.

    Raises:
        ValueError: Even so it would take too much time or memory.
    """
    times = _DRAFTED_PROGRESSIVE if progressive else _DRAFTED
    check_pixels(size, "JPEG", times * limit)


class PixelBudget:
    """Pixels that all threads together may hold; who would exceed them waits for the others.

    A picture of more than the whole budget is let in alone. First come, first served, so that
    it is let in at all.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self.reset()

    def reset(self) -> None:
        """Forgets who holds pixels: in a forked child, threads that it has not."""
        self._held = 0
        self._turn = threading.Lock()
        self._free = threading.Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Takes pixels, when there are as many, and gives them back at the end."""
        with self._turn, self._free:
            self._free.wait_for(lambda: not self._held or self._held + pixels <= self._pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._free:
                self._held -= pixels
                self._free.notify_all()


BUDGET = PixelBudget(MAX_PIXELS)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BUDGET.reset)

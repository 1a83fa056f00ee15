"""What a library must do to be compared, and how it was set up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Vectors = Any
# That ``encode`` is measured at.
BATCH = 8


@dataclass(frozen=True)
class Settings:
    """How a peer's process is set up.

    Attributes:
        threads: For one operator.
        spinning: Whether threads wait for work in a loop.
    """

    threads: int
    spinning: bool

    def __str__(self) -> str:
        return f"{self.threads} threads, {'spinning' if self.spinning else 'sleeping'}"


class Peer:
    """A library with one model loaded.

    Attributes:
        about: What else is to be said of its setup.
        batches: Sizes of batches that it may be given; none where it chooses by itself.
    """

    about: str = ""
    batches: tuple[int, ...] = (8, 32)

    def __init__(self, folder: Path, settings: Settings) -> None:
        raise NotImplementedError

    def pixels(self, paths: list[str]) -> Any:
        """Photos prepared, as ``encode`` takes them, in batches of ``BATCH``."""
        raise NotImplementedError

    def encode(self, batches: Any) -> Vectors:
        raise NotImplementedError

    def photos(self, paths: list[str], batch: int) -> Vectors:
        raise NotImplementedError

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        raise NotImplementedError


def several(items: list[Any], batch: int) -> list[list[Any]]:
    return [items[start : start + batch] for start in range(0, len(items), batch)]


def joined(items: list[Any], batch: int, work: Callable[[list[Any]], Vectors]) -> Vectors:
    """Work done batch by batch, as one array."""
    return np.concatenate([np.asarray(work(part)) for part in several(items, batch)])

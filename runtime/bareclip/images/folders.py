"""Which files of a folder are taken for pictures, and which are left out by their names."""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath

from ..errors import BareclipError
from .inputs import image_endings

# Hidden files and folders, macOS's companions of files on other disks (._photo.jpg) among
# them, and the thumbnails that a Synology NAS keeps beside photos.
EXCLUDED = (".*", "@eaDir")


@dataclass(frozen=True)
class Listing:
    """Pictures of a folder.

    Attributes:
        files: Sorted.
        left_out: How many pictures and folders were left out by name.
    """

    files: list[Path]
    left_out: int


def list_images(
    folder: Path, exclude: Iterable[str] = EXCLUDED, root: Path | None = None
) -> Listing:
    """Files under ``folder``, however deep, whose ending is a picture's.

    Links to folders are followed, and each folder is entered once.

    Args:
        folder: Is entered whatever its own name.
        exclude: Patterns as for ``is_excluded``.
        root: Which folder the patterns' paths are relative to; None is ``folder``.

    Raises:
        BareclipError: A folder cannot be listed.
    """

    def unlisted(error: OSError) -> None:
        raise BareclipError(
            f"folder {error.filename} cannot be listed: {error.strerror}; name the folders "
            "beside it instead, or let its owner allow it"
        ) from error

    patterns = tuple(exclude)
    found: list[Path] = []
    left_out = 0
    # By their paths: union file systems give several folders one inode number.
    entered: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=unlisted, followlinks=True):
        resolved = os.path.realpath(place)
        if resolved in entered:
            folders.clear()
            continue
        entered.add(resolved)
        within = Path(place).relative_to(root or folder)
        kept = [name for name in folders if not is_excluded(str(within / name), patterns)]
        left_out += len(folders) - len(kept)
        # Sorted: where links go in a circle, the same folders are the ones entered every time.
        folders[:] = sorted(kept)
        for name in filter(is_image_name, names):
            if is_excluded(str(within / name), patterns):
                left_out += 1
            else:
                found.append(Path(place, name))
    return Listing(sorted(found), left_out)


def image_files(folder: Path) -> list[Path]:
    """The files of ``list_images``, nothing hidden among them."""
    return list_images(folder).files


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as a picture's does."""
    return PurePath(name).suffix.lower() in image_endings()


def is_excluded(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file or a folder is left out, by its name or by its path.

    Args:
        path: Relative to the folder that is looked through.
        patterns: As a shell has them, such as ``"*.png"`` or ``"2019/raw"``; ``*`` also
            stands for ``/``.
    """
    matches, path = _matcher(patterns), os.path.normcase(path)
    return bool(matches(path[path.rfind(os.sep) + 1 :]) or matches(path))


def lies_in_excluded(path: str, patterns: tuple[str, ...]) -> bool:
    """As ``is_excluded``, of a file and of every folder that it lies in."""
    places = (path, *map(str, PurePath(path).parents[:-1]))
    return any(is_excluded(place, patterns) for place in places)


@cache
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    # One expression for all: a million files are asked about.
    expressions = [fnmatch.translate(os.path.normcase(pattern)) for pattern in patterns]
    return re.compile("|".join(expressions) or r"(?!)").match

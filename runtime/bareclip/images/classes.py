"""A tree of pictures, one folder per class."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import BareclipError
from .folders import EXCLUDED, is_excluded, list_images


@dataclass(frozen=True)
class Classes:
    """What such a tree holds.

    Attributes:
        labels: The folders' names, sorted; ``_`` in them reads as a space.
        paths: Of pictures, by class.
        places: Of each one's label.
        left_out: How many pictures and folders were left out by name.
    """

    labels: list[str]
    paths: list[Path]
    places: list[int]
    left_out: int


def list_classes(folder: Path, exclude: tuple[str, ...] = EXCLUDED) -> Classes:
    """Lists the pictures of every folder in ``folder``; one without pictures is a class too.

    Args:
        folder: Holds the folders.
        exclude: Patterns of names, or of paths within ``folder``, of what is left out, classes
            too; without it, what is hidden and ``@eaDir``.

    Raises:
        BareclipError: Fewer than two folders with pictures, or two that read as one name.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    classes = [path for path in folders if not is_excluded(path.name, exclude)]
    listings = [list_images(path, exclude, folder) for path in classes]
    left_out = len(folders) - len(classes) + sum(found.left_out for found in listings)
    if sum(bool(found.files) for found in listings) < 2:
        raise BareclipError(
            f"{folder} does not hold one folder of images per class, two or more of them; give a "
            "folder that does, or, to evaluate, a .jsonl file of images with captions"
        )
    labels = [path.name.replace("_", " ") for path in classes]
    if len(set(labels)) < len(labels):
        raise BareclipError(
            f"two folders of {folder} have one name once _ reads as a space; rename one of them"
        )
    paths = [path for found in listings for path in found.files]
    places = [place for place, found in enumerate(listings) for _ in found.files]
    return Classes(labels, paths, places, left_out)

"""Images of the command line, and their vectors: files, folders, addresses, standard input."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .. import Clip, Failure, ImageError, PartialEmbeddings
from ..images.folders import EXCLUDED, list_images
from ..images.inputs import Fetched
from .download import download, is_address, shown_address
from .output import note, with_progress
from .standard_input import DASH, NAME, read_bytes


@dataclass(frozen=True)
class Source:
    """An image of the command line: what its user calls it, and what can be embedded."""

    name: str
    image: Path | Fetched


def expand(arguments: Iterable[str], exclude: tuple[str, ...] = EXCLUDED) -> list[Source]:
    """Each file and address as itself, each folder as the images under it, sorted.

    Args:
        arguments: As given; ``-`` is a picture on standard input.
        exclude: Patterns of what is left out of folders; how many is said on stderr.

    Raises:
        ImageError: A folder without images, or nothing on standard input.
    """
    sources: list[Source] = []
    left_out = 0
    for argument in arguments:
        if argument == DASH:
            data = read_bytes()
            if not data:
                raise ImageError("standard input is empty; - wants a picture on it")
            sources.append(Source(argument, Fetched(NAME, partial(bytes, data))))
        elif is_address(argument):
            name = shown_address(argument)
            sources.append(Source(name, Fetched(name, partial(download, argument))))
        elif Path(argument).is_dir():
            found = list_images(Path(argument), exclude)
            left_out += found.left_out
            if not found.files:
                others = f", besides {found.left_out} left out by name" if found.left_out else ""
                raise ImageError(f"folder {argument} holds no image files{others}")
            sources += [Source(str(path), path) for path in found.files]
        else:
            sources.append(Source(argument, Path(argument)))
    note_left_out(left_out, exclude)
    return sources


def note_left_out(count: int, exclude: Sequence[str]) -> None:
    """Says how many pictures and folders were left out, unless none was."""
    if count:
        what = "picture or folder" if count == 1 else "pictures and folders"
        note(f"left out: {count} {what} named {', '.join(exclude)} (see --exclude and --hidden)")


def embed_sources(
    clip: Clip, sources: Sequence[Source], *, stop: bool = False
) -> PartialEmbeddings:
    """Embeds what can be read, and names on stderr what cannot, one per line.

    Args:
        clip: The model.
        sources: At least one.
        stop: End at the first that cannot be read.

    Raises:
        ImageError: None can be read, or with ``stop`` one cannot.
    """
    vectors = np.empty((len(sources), clip.images.width), np.float32)
    kept: list[int] = []
    failures: list[Failure] = []
    found = clip.images.stream(source.image for source in sources)
    for place, vector in enumerate(with_progress(found, len(sources))):
        if not isinstance(vector, Failure):
            vectors[len(kept)] = vector
            kept.append(place)
        elif stop or len(sources) == 1:
            raise ImageError(vector.reason)
        else:
            failures.append(vector)
            note(f"skipped: {vector.reason}")
    if not kept:
        raise ImageError(f"none of the {len(sources)} images can be read")
    return PartialEmbeddings(vectors[: len(kept)], kept, failures)


def check_all_read(failures: Sequence[Failure], total: int) -> None:
    """Ends a verb that went on without some images, when it has answered for the others.

    Raises:
        ImageError: There are some.
    """
    if failures:
        raise ImageError(
            f"{len(failures)} of {total} images could not be read, and are named above; "
            f"the answers are of the other {total - len(failures)}"
        )

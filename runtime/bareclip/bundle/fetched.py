"""Where files of a bundle from the Hub are kept once they were checked.

That is a folder beside the snapshots of its repository in huggingface_hub's cache,
``models--owner--name/bareclip/COMMIT``. What lies in it has the manifest's checksum, and is a
file, another name of the one in the cache: ONNX Runtime 1.24 and newer read no weights behind
symbolic links that lead to another folder than the graph's, as huggingface_hub 2 makes them.
"""

import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import BundleError
from ..files import replacing
from .format import FileRecord

_FOLDER = re.compile(
    r"/models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)/bareclip/[0-9a-f]{40}", re.ASCII
)


@dataclass(frozen=True)
class Fetched:
    """A folder of ours in huggingface_hub's cache: a repository's bundle at one commit.

    Attributes:
        folder: ``.../models--owner--name/bareclip/COMMIT``.
        repo: ``owner/name``.
    """

    folder: Path
    repo: str

    @classmethod
    def at(cls, folder: Path) -> "Fetched | None":
        """The one that a folder is; None where it is any other."""
        folder = folder.absolute()
        match = _FOLDER.fullmatch("/" + "/".join(folder.parts[-3:]))
        return cls(folder, f"{match['owner']}/{match['name']}") if match else None

    @classmethod
    def beside(cls, snapshot: Path, repo: str) -> "Fetched":
        """The one of a snapshot, ``.../models--owner--name/snapshots/COMMIT``."""
        return cls(snapshot.parents[1] / "bareclip" / snapshot.name, repo)

    @property
    def commit(self) -> str:
        """In hexadecimal."""
        return self.folder.name

    @property
    def cache(self) -> Path:
        """huggingface_hub's."""
        return self.folder.parents[2]

    @property
    def name(self) -> str:
        """``owner/name@commit``."""
        return f"{self.repo}@{self.commit}"

    def has(self, name: str, record: FileRecord) -> bool:
        """Whether a file is there already."""
        path = self.folder / name
        return path.is_file() and path.stat().st_size == record.size

    def keep(self, name: str, source: Path) -> None:
        """Takes in a file that was checked.

        Raises:
            BundleError: The cache cannot be written.
        """
        place = self.folder / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(source.resolve(), place)
        except OSError as error:
            raise BundleError(
                f"cannot keep {name} of {self.name} in the Hub's cache: {error}; set HF_HOME to a "
                "folder that can be written"
            ) from error


def _link(source: Path, place: Path) -> None:
    """Another name of a file, or a copy where the file system gives it no second one."""
    part = place.with_name(f"{place.name}.{secrets.token_hex(4)}.part")
    try:
        os.link(source, part)
        part.replace(place)
    except OSError:
        with source.open("rb") as file, replacing(place) as copy:
            shutil.copyfileobj(file, copy)
    finally:
        part.unlink(missing_ok=True)  # it stays where both are names of one file already

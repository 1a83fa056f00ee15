"""What is in a folder: every file once, however many links lead to it. Opens nothing.

Paths are bytes, as the system has them: a name need not be UTF-8.
"""

import os
import stat
from collections import deque
from dataclasses import dataclass, field

from ..images.folders import is_excluded, is_image_name
from ..images.pixels import reason

NO_FILE = "it is a pipe, a socket or a device"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, or something in a file's place.

    Attributes:
        path: Where it was found.
        key: The same with links resolved.
        mounted: Whether it lies on another device than the folder that was scanned.
        size: Bytes.
        modified_ns: Nanoseconds since 1970, within 64 bits.
        problem: Why it cannot be opened: a broken link, a pipe, a device; else None.
    """

    path: bytes
    key: bytes
    mounted: bool
    size: int
    modified_ns: int
    problem: str | None


@dataclass
class Scan:
    """What was found under a folder.

    Attributes:
        device: The folder's.
        files: By path.
        unreadable: Folders that could not be listed, with the reason.
        left_out: How many pictures, by their endings, and folders were left out by name.
    """

    device: int
    files: list[FoundFile] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    left_out: int = 0


def scan(root: bytes, exclude: tuple[str, ...] = ()) -> Scan:
    """Lists the files under ``root``, following links to files and folders.

    A file that several paths lead to is found once, where it lies if that is under
    ``root``; a folder likewise, so that links in a circle end.

    Args:
        root: The folder.
        exclude: Patterns of names and paths to leave out, as ``images.folders`` has them.

    Raises:
        OSError: ``root`` itself cannot be listed.
    """
    walk = _Walk(root, exclude)
    walk.run()
    walk.found.files.sort(key=lambda file: file.path)
    return walk.found


def relative(path: bytes, root: bytes) -> str:
    """A path under ``root``, as seen from there."""
    return os.fsdecode(path[len(os.path.join(root, b"")) :])


class _Walk:
    def __init__(self, root: bytes, exclude: tuple[str, ...]) -> None:
        self.found = Scan(os.stat(root).st_dev)
        self._root = root
        self._exclude = exclude
        # By their paths: union file systems give several folders one inode number.
        self._entered: set[bytes] = set()
        self._keys: set[bytes] = set()
        # Paths, with their own links resolved.
        self._folders = deque([(root, os.path.realpath(root))])
        # Links wait until what lies under the root has been seen where it lies.
        self._links: deque[bytes] = deque()

    def run(self) -> None:
        while self._folders or self._links:
            if self._folders:
                self._enter(*self._folders.popleft())
                continue
            path = self._links.popleft()
            key = os.path.realpath(path)
            if os.path.isdir(path):
                self._folders.append((path, key))
            else:
                self._add(path, key)

    def _enter(self, path: bytes, key: bytes) -> None:
        if key in self._entered:
            return
        self._entered.add(key)
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if path == self._root:
                raise
            self.found.unreadable.append((path, error.strerror or reason(error)))
            return
        for entry in entries:
            if is_excluded(relative(entry.path, self._root), self._exclude):
                counts = entry.is_dir() or is_image_name(os.fsdecode(entry.name))
                self.found.left_out += counts
            elif entry.is_symlink():
                self._links.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                self._folders.append((entry.path, os.path.join(key, entry.name)))
            else:
                self._add(entry.path, os.path.join(key, entry.name))

    def _add(self, path: bytes, key: bytes) -> None:
        try:
            status = os.stat(path)
        except OSError as error:  # a link to nothing, or in a circle
            why = error.strerror or reason(error)
            self.found.files.append(FoundFile(path, path, False, 0, 0, why))
            return
        if key in self._keys:
            return
        self._keys.add(key)
        problem = None if stat.S_ISREG(status.st_mode) else NO_FILE
        mounted = status.st_dev != self.found.device
        size, modified = _in_64_bits(status.st_size), _in_64_bits(status.st_mtime_ns)
        self.found.files.append(FoundFile(path, key, mounted, size, modified, problem))


def _in_64_bits(number: int) -> int:
    """A number of the file system's as SQLite can hold it; others, ext4's year 2446, wrap."""
    return (number + 2**63) % 2**64 - 2**63

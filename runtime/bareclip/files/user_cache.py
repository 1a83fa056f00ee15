"""The user's cache folder: where it is, whether it may be used, and who works in it."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import BareclipError
from . import is_own

_log = logging.getLogger("bareclip")
# A file's lock is a process's own; its threads wait for each other here.
_IN_TURN = threading.Lock()


def cache_folder() -> Path | None:
    """Where it is; None where ``BARECLIP_CACHE`` says ``off``.

    That variable names another folder; else it is the system's place for a user's caches.

    Raises:
        BareclipError: The user has no home folder.
    """
    chosen = os.environ.get("BARECLIP_CACHE", "")
    if chosen == "off":
        return None
    if chosen:
        # Not expanduser() of a Path, which raises where there is no such user.
        return Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "bareclip"
    except RuntimeError as error:
        raise BareclipError(
            "there is no home folder to keep a cache in: BARECLIP_CACHE names another, or `off`"
        ) from error


def usable_cache() -> Path | None:
    """The folder, made where it was missing; None where there is none to be used.

    What lies in it is run, so it must be this user's own: another's, or one that others may
    write to, is left alone.
    """
    try:
        cache = cache_folder()
        if cache is None:
            return None
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = is_own(cache)
    except (OSError, BareclipError):
        return None
    if not own:
        _log.warning("%s is not used as a cache: it is not this user's alone", cache)
        return None
    return cache


@contextlib.contextmanager
def alone_in(cache: Path) -> Iterator[bool]:
    """Whether no other process fills the cache: a hundred at once would fill the disk."""
    try:
        import fcntl
    except ImportError:  # Windows: renaming keeps it correct, if wasteful
        yield True
        return
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_IN_TURN)
            # Not through a link, which might lead anywhere.
            flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(cache / ".lock", flags, 0o600)
            held.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        yield alone

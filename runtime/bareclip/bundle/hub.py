"""The Hub: bundles by the name of their repository, and how one gets there.

The address, the cache, being offline, proxies and access tokens are huggingface_hub's own
settings (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN). It is imported when a name of the
Hub is given, since that takes half a second.

What is downloaded lies in huggingface_hub's cache; ``fetched`` says where it is kept once its
checksum was compared with the manifest's.
"""

import contextlib
import errno
import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import BundleError
from ..files import printable
from .fetched import Fetched
from .format import MANIFEST, FileRecord, file_record

_log = logging.getLogger("bareclip")

# As the Hub has it: parts begin and end with a letter, a number or an underscore.
_NAME = re.compile(
    r"(?P<repo>\w([\w.-]*\w)?/(?=.{1,96}(@|$))\w([\w.-]*\w)?)(@(?P<revision>\w[\w./-]{0,200}))?",
    re.ASCII,
)
_COMMIT = re.compile("[0-9a-f]{40}")
# Git's name of a small file, SHA-256 of a large one.
_CHECKSUM = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
# A manifest of every precision has some 10,000 bytes.
_LARGEST_MANIFEST = 1024**2
LOG_IN = "set HF_TOKEN to a token of yours, or log in with: hf auth login"


def is_name(name: str) -> bool:
    """Whether it looks like ``owner/name`` or ``owner/name@revision``.

    Examples:
        >>> [is_name(n) for n in ("someone/clip-b32", "someone/clip@v1", "./a/b", "a/b/c", "C:/b")]
        [True, True, False, False, False]
    """
    match = _NAME.fullmatch(name)
    if match is None or ".." in name:
        return False
    return "--" not in match["repo"] and not match["repo"].endswith(".git")


def find(name: str) -> Path:
    """Brings a bundle's manifest here; ``fetch`` brings the rest.

    Args:
        name: As ``is_name`` has it. A commit that is in the cache costs no request.

    Returns:
        The folder, as ``Fetched`` has it.

    Raises:
        BundleError: No such repository or revision, no access, no network and not in the
            cache, or it holds no bundle.
    """
    match = _NAME.fullmatch(name)
    assert match is not None  # the caller has asked is_name
    repo, revision = match["repo"], match["revision"] or "main"
    hub = library(name)
    cached = _cached(hub, repo, MANIFEST, revision)
    if cached is None or not _COMMIT.fullmatch(revision):
        try:
            commit = _check_answer(hub, repo, MANIFEST, revision, _LARGEST_MANIFEST)
            if cached is None or cached.parent.name != commit:
                cached = Path(hub.hf_hub_download(repo, MANIFEST, revision=revision))
        except Exception as error:  # its transports' errors share no base across its versions
            gone = (hub.errors.RevisionNotFoundError, hub.errors.EntryNotFoundError)
            if cached is None or isinstance(error, gone):
                raise refusal(hub, error, name) from error
            _log.info("the Hub cannot be asked for %s: what is in the cache is used", name)
    to = Fetched.beside(cached.parent, repo)
    if not to.has(MANIFEST, file_record(cached)):
        if cached.stat().st_size > _LARGEST_MANIFEST or not is_as_named(cached):
            _discard(cached)
            raise BundleError(
                f"{MANIFEST} of {to.name} is not what the Hub holds; it was removed from the "
                "cache: try again"
            )
        to.keep(MANIFEST, cached)
    return to.folder


def fetch(to: Fetched, files: Mapping[str, FileRecord]) -> None:
    """Brings files of a bundle here that are not yet, each held to its checksum.

    Raises:
        BundleError: One cannot be had, or is not what the manifest says.
    """
    missing = {name: record for name, record in files.items() if not to.has(name, record)}
    if not missing:
        return
    hub = library(to.name)
    for name, record in missing.items():
        to.keep(name, _checked(hub, to, name, record))
        _log.info("fetched %s of %s", name, to.name)


def _checked(hub: Any, to: Fetched, name: str, record: FileRecord) -> Path:
    """A file in huggingface_hub's cache that is what the manifest says, downloaded if need be."""
    try:
        path = _cached(hub, to.repo, name, to.commit, to.cache)
        if path is not None and file_record(path) == record:
            return path
        _check_answer(hub, to.repo, name, to.commit, record.size)
        path = Path(
            hub.hf_hub_download(
                to.repo,
                name,
                revision=to.commit,
                cache_dir=to.cache,
                force_download=path is not None,  # what is there is damaged
            )
        )
    except Exception as error:  # as above
        raise refusal(hub, error, to.name, f"cannot fetch {name}: ") from error
    found = file_record(path)
    if found != record:
        _discard(path)
        raise BundleError(
            f"{name} of {to.name} is not what its {MANIFEST} says: its SHA-256 is "
            f"{found.sha256}, not {record.sha256}; it was removed from the cache: try again, or "
            "ask whoever pushed it to push it again"
        )
    return path


def _discard(path: Path) -> None:
    """Takes a file out of the cache, with what its link leads to in the repository's folder."""
    with contextlib.suppress(OSError):
        if path.is_symlink():
            # Not resolve(): from there a link may lead on, to what repositories share.
            blob = path.parent / path.readlink()
            blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def library(name: str) -> Any:
    """The library, with an address that is not read by everyone on the way.

    Raises:
        BundleError: It is not installed, or HF_ENDPOINT is no https address.
    """
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise BundleError(
            f"{name} is no folder here, and names of the Hub need huggingface_hub ({error}): "
            "pip install huggingface_hub"
        ) from error
    constants = huggingface_hub.constants
    address = urlsplit(constants.ENDPOINT)
    local = address.hostname in ("127.0.0.1", "::1", "localhost") or constants.HF_HUB_OFFLINE
    if address.scheme != "https" and not local:
        raise BundleError(
            "HF_ENDPOINT is not an https:// address: whoever is on the way could give other "
            "files, and read the token"
        )
    return huggingface_hub


def _cached(
    hub: Any, repo: str, name: str, revision: str, cache: Path | None = None
) -> Path | None:
    found = hub.try_to_load_from_cache(repo, name, cache_dir=cache, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _check_answer(hub: Any, repo: str, name: str, revision: str, most: int) -> str:
    """Asks for a file's size and checksum before it is downloaded; returns the commit.

    huggingface_hub makes paths of checksum and commit, whatever they are, and downloads any
    number of bytes.
    """
    found = hub.get_hf_file_metadata(hub.hf_hub_url(repo, name, revision=revision))
    commit, etag = str(found.commit_hash), str(found.etag)
    if not _COMMIT.fullmatch(commit) or not _CHECKSUM.fullmatch(etag):
        raise BundleError(
            f"{hub.constants.ENDPOINT} does not answer as the Hub does: {name} of {repo} has the "
            f"checksum {etag[:80]!r} at the commit {commit[:80]!r}; check HF_ENDPOINT"
        )
    if found.size is not None and found.size > most:
        raise BundleError(
            f"{name} of {repo}@{commit} has {found.size} bytes, more than its bundle can want "
            f"({most}); ask whoever pushed it to push it again"
        )
    return commit


def is_as_named(path: Path) -> bool:
    """Whether a file in huggingface_hub's cache has the checksum that its blob is named by.

    huggingface_hub compares lengths only. Where links cannot be made, as on Windows, files have
    names of their own, and pass.
    """
    # Not resolve(): the blob may itself be a link, to what repositories share, named otherwise.
    name = path.readlink().name if path.is_symlink() else ""
    if not _CHECKSUM.fullmatch(name):
        return not path.is_symlink()
    if len(name) == 64:
        digests = [hashlib.sha256()]
    else:  # Git's of a blob; and, for mirrors, the plain one
        size = path.stat().st_size
        digests = [
            hashlib.sha1(start, usedforsecurity=False) for start in (b"blob %d\0" % size, b"")
        ]
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            for digest in digests:
                digest.update(part)
    return name in [digest.hexdigest() for digest in digests]


def refusal(hub: Any, error: Exception, name: str, doing: str = "") -> BundleError:
    """A line that says why a repository, or a file of it, cannot be had or written."""
    if isinstance(error, BundleError):
        return error
    errors, constants = hub.errors, hub.constants
    repo, _, revision = name.partition("@")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        why = f"the Hub wants you to ask for it at {constants.ENDPOINT}/{repo}; then {LOG_IN}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = (
            f"the Hub has no repository {repo}, or not for you: check the name; for a private one "
            f"{LOG_IN}"
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"the Hub's repository {repo} has no revision {revision or 'main'}: check its name"
    elif isinstance(error, errors.EntryNotFoundError) and status == 404 and doing:
        why = f"the Hub's {name} does not have it; ask whoever pushed it to push it again"
    elif isinstance(error, errors.EntryNotFoundError) and status == 404:
        return BundleError(
            f"the Hub's {name} is no bundle, it has no {MANIFEST}; make one: "
            f"bareclip export {name} -o {repo.partition('/')[2]}"
        )
    elif status in (401, 403):
        why = f"the Hub does not let this token do that with {repo}: {LOG_IN}"
    elif _is_of_the_disk(error):
        why = f"the Hub's cache cannot be written: {error}; make room, or set HF_HOME to a folder"
    elif constants.HF_HUB_OFFLINE:
        why = "it is not in the Hub's cache, and HF_HUB_OFFLINE is set: unset it to download"
    else:
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        reason = reason if len(reason) <= 200 else f"{reason[:197]}..."
        why = (
            f"the Hub's repository cannot be reached: {reason}; check the network and "
            "HF_ENDPOINT, and try again"
        )
    return BundleError(f"{doing or f'{name} is no folder here, and '}{why}")


def _is_of_the_disk(error: Exception) -> bool:
    if not isinstance(error, OSError) or isinstance(error, (ConnectionError, TimeoutError)):
        return False
    full, denied = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
    return error.errno in (*full, *denied, errno.ENOTDIR, errno.ENAMETOOLONG)

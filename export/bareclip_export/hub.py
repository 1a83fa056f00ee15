"""Checkpoints by name: downloads what an export needs, through huggingface_hub.

The address, the cache, being offline and access tokens are huggingface_hub's own
settings (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN).
"""

import hashlib
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from .errors import CheckpointError
from .files import CONFIGS, WEIGHTS

_SMALL_FILES = [
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "README.md",
]

_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")


def download(source: str, graphs: Sequence[str] = ()) -> tuple[Path, str]:
    """Brings a repository's files into huggingface_hub's cache.

    Args:
        source: ``owner/name`` or ``owner/name@revision``.
        graphs: Bring these in the place of its weights.

    Returns:
        The folder of the snapshot, and the commit it is.

    Raises:
        CheckpointError: No such repository or revision, no access, no network and not in
            the cache, or a file that is not what the Hub holds.
    """
    match = _NAME.fullmatch(source)
    if match is None:
        raise CheckpointError(
            f"{source!r} is neither a folder here nor a name such as "
            "openai/clip-vit-base-patch32 or owner/name@revision"
        )
    repo, revision = match["repo"], match["revision"]
    if graphs:
        # Their weights may lie apart.
        patterns = [name + suffix for name in graphs for suffix in ("", "_data*", ".data")]
        folder = _snapshot(repo, revision, _SMALL_FILES + patterns)
        return folder, folder.name
    folder = _snapshot(repo, revision, _SMALL_FILES)
    # One form of the weights after another, since each is as large as the last: OpenCLIP's
    # where the repository has its config, and pickles only where nothing else is there.
    for layout in ("open_clip", "huggingface"):
        for weights in WEIGHTS[layout] if (folder / CONFIGS[layout]).is_file() else ():
            stem, _, suffix = weights.rpartition(".")
            patterns = [weights, f"{weights}.index.json", f"{stem}-*-of-*.{suffix}"]
            folder = _snapshot(repo, revision, _SMALL_FILES + patterns)
            if any(folder.glob(f"{stem}*.{suffix}")):
                return folder, folder.name
    return folder, folder.name


def _snapshot(repo: str, revision: str | None, patterns: list[str]) -> Path:
    # Here, since huggingface_hub takes half a second to import and a local folder needs none.
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except Exception as error:  # its transports' errors share no base across its versions
        named = f"{repo}@{revision}" if revision else repo
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{named} is no folder here, and cannot be downloaded: {reason} "
            "Check the name, the network, HF_ENDPOINT and HF_HUB_OFFLINE, "
            "or give a folder that holds the checkpoint"
        ) from error
    _check(folder, patterns)
    return folder


def _check(folder: Path, patterns: Sequence[str]) -> None:
    """Compares files with the checksums that the cache names them by.

    huggingface_hub compares lengths only. Where links cannot be made, as on Windows, files have
    names of their own, and are not compared.
    """
    for path in sorted(folder.rglob("*")):
        name, blob = path.relative_to(folder).as_posix(), path.resolve()
        if not path.is_file() or not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
            continue
        found = _checksums(blob)
        if blob.name not in found:
            raise CheckpointError(
                f"{name} of {folder} is not what the Hub holds: its checksum is {found[0]}, not "
                f"{blob.name}; delete {blob} and run this again"
            )


def _checksums(blob: Path) -> list[str]:
    """SHA-256, by which large files go; else Git's SHA-1 of a blob, and, for mirrors, the plain."""
    size = blob.stat().st_size
    if len(blob.name) == 64:
        digests = [hashlib.sha256()]
    else:
        digests = [
            hashlib.sha1(start, usedforsecurity=False) for start in (b"blob %d\0" % size, b"")
        ]
    with blob.open("rb") as file:
        while part := file.read(1 << 20):
            for digest in digests:
                digest.update(part)
    return [digest.hexdigest() for digest in digests]

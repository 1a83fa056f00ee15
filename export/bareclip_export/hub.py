"""Checkpoints by name: downloads what an export needs, through huggingface_hub.

The address, the cache, being offline and access tokens are huggingface_hub's own
settings (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN).
"""

import importlib
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bareclip.bundle.hub import is_as_named
from bareclip.errors import short

from .errors import CheckpointError
from .files import CONFIGS, WEIGHTS
from .sentence_transformers import MODULES, clip_folder

_SMALL_FILES = [
    "config.json",
    "open_clip_config.json",
    MODULES,
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "vocab.txt",
    "sentence_bert_config.json",
    "README.md",
]
# What sentence-transformers has behind a text model; their weights are of a megabyte.
_MODULES = [
    "*_Pooling/config.json",
    *(f"*_Dense/{name}" for name in ("config.json", *WEIGHTS["huggingface"])),
]

_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_INFO = re.compile(r"/api/models/.*/revision/|/api/models/[^/]+/[^/]+$")
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
    inner = clip_folder(folder)
    within = f"{inner.name}/" if inner != folder else ""
    small = [within + name for name in _SMALL_FILES]
    if (folder / MODULES).is_file():
        small += _MODULES
        folder = _snapshot(repo, revision, small)
    # One form of the weights after another, since each is as large as the last: OpenCLIP's
    # where the repository has its config, and pickles only where nothing else is there.
    for layout in ("open_clip", "huggingface"):
        there = (folder / within / CONFIGS[layout]).is_file()
        for weights in WEIGHTS[layout] if there else ():
            stem, _, suffix = weights.rpartition(".")
            patterns = [weights, f"{weights}.index.json", f"{stem}-*-of-*.{suffix}"]
            folder = _snapshot(repo, revision, small + [within + name for name in patterns])
            if any((folder / within).glob(f"{stem}*.{suffix}")):
                return folder, folder.name
    return folder, folder.name


def _refuse_endpoint(endpoint: str) -> None:
    """Refuses an address at which anyone between here and there could answer.

    Raises:
        CheckpointError: It is neither https nor this machine.
    """
    address = urlsplit(endpoint)
    host = address.hostname or ""
    local = host in ("localhost", "::1") or re.fullmatch(r"127(\.\d+){3}", host) is not None
    if address.scheme != "https" and not (address.scheme == "http" and local):
        raise CheckpointError(
            f"HF_ENDPOINT is {address.scheme}://{host}, where anyone on the way could change what "
            "is downloaded: give an https address, or download the files yourself"
        )


def _guard_answers() -> None:
    """Has every answer of the Hub checked before huggingface_hub makes paths of what it says."""
    import huggingface_hub

    if hasattr(huggingface_hub, "configure_http_backend"):  # before 1.0, over requests
        huggingface_hub.configure_http_backend(_requests_session)
        return
    client: Any = huggingface_hub.get_session()
    hooks = client.event_hooks
    if _refuse_names not in hooks["response"]:
        client.event_hooks = hooks | {"response": [*hooks["response"], _refuse_names]}


def _requests_session() -> Any:
    # Where huggingface_hub needs it; newer ones do not bring it along.
    session = importlib.import_module("requests").Session()
    session.hooks["response"].append(lambda response, **_: _refuse_names(response))
    return session


def _refuse_names(response: Any) -> None:
    """Refuses an answer with a checksum or a commit that is none.

    huggingface_hub joins them into paths, so that a hostile server could have a file written
    anywhere.

    Raises:
        CheckpointError: It has one.
    """
    if response.status_code >= 400:
        return
    headers, said = response.headers, {}
    if response.request.method == "HEAD":
        etag = headers.get("X-Linked-Etag") or headers.get("ETag")
        said = {"checksum": etag and etag.removeprefix("W/").strip('"')}
        said["commit"] = headers.get("X-Repo-Commit")
    elif _INFO.search(str(response.url)):
        response.read() if hasattr(response, "read") else response.content
        data = response.json()
        said["commit"] = data.get("sha") if isinstance(data, dict) else None
    for what, name in said.items():
        if name is not None and not (type(name) is str and _CHECKSUM.fullmatch(name)):
            raise CheckpointError(
                f"the Hub at HF_ENDPOINT gives {short(name)} for a {what}, which is none; nothing "
                "was written: give another HF_ENDPOINT, or a folder that holds the checkpoint"
            )


def _snapshot(repo: str, revision: str | None, patterns: list[str]) -> Path:
    # Here, since huggingface_hub takes half a second to import and a local folder needs none.
    import huggingface_hub
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        _refuse_endpoint(constants.ENDPOINT)
    _guard_answers()
    try:
        folder = Path(
            huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns)
        )
    except CheckpointError:
        raise
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

    Raises:
        CheckpointError: One is another, or is a link to elsewhere than the cache.
    """
    blobs = folder.parents[1] / "blobs"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_symlink() or not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        # Not resolve(): huggingface_hub 2 has blobs that are links themselves, to what several
        # repositories share.
        blob = path.parent / path.readlink()
        if Path(os.path.normpath(blob.parent)) != blobs:
            raise CheckpointError(
                f"{name} of {folder} is a link to {blob}, which is no file of the cache: delete it "
                "and run this again"
            )
        if not is_as_named(path):
            raise CheckpointError(
                f"{name} of {folder} is not what the Hub holds: its checksum is not {blob.name}; "
                f"delete {blob} and run this again"
            )

"""Checkpoints by name: downloads what an export needs, through huggingface_hub.

The address, the cache, being offline and access tokens are huggingface_hub's own
settings (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN).
"""

import re
from pathlib import Path

from .errors import CheckpointError
from .files import CONFIGS, READY_MADE, WEIGHTS

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


def download(source: str, ready_made: bool = False) -> tuple[Path, str]:
    """Brings a repository's files into huggingface_hub's cache.

    Args:
        source: ``owner/name`` or ``owner/name@revision``.
        ready_made: Bring its ONNX graphs in the place of its weights.

    Returns:
        The folder of the snapshot, and the commit it is.

    Raises:
        CheckpointError: No such repository or revision, no access, or no network and
            not in the cache.
    """
    match = _NAME.fullmatch(source)
    if match is None:
        raise CheckpointError(
            f"{source!r} is neither a folder here nor a name such as "
            "openai/clip-vit-base-patch32 or owner/name@revision"
        )
    repo, revision = match["repo"], match["revision"]
    if ready_made:
        folder = _snapshot(repo, revision, _SMALL_FILES + READY_MADE)
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
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except Exception as error:  # its transports' errors share no base across its versions
        named = f"{repo}@{revision}" if revision else repo
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{named} is no folder here, and cannot be downloaded: {reason} "
            "Check the name, the network, HF_ENDPOINT and HF_HUB_OFFLINE, "
            "or give a folder that holds the checkpoint"
        ) from error

"""A bundle on its way into a repository on the Hub."""

from collections.abc import Iterable
from pathlib import Path

from ..errors import BundleError
from . import hub
from .format import MANIFEST

_CARD = "README.md"


def upload(
    folder: Path,
    names: Iterable[str],
    repo: str,
    card: str,
    *,
    private: bool = False,
    overwrite_card: bool = False,
) -> str:
    """Puts a bundle into a repository, in one commit: at no moment is half of it there.

    Args:
        folder: Where the bundle lies.
        names: Its files, but the manifest.
        repo: ``owner/name``, made where it is not there.
        card: The text of its README.md, which does not replace one that is there.
        private: Make a private one.
        overwrite_card: Replace the README.md.

    Returns:
        Its address at the commit.

    Raises:
        BundleError: No token, no access, no network, or it is there already, and public, where
            a private one is wanted.
    """
    hf = hub.library(repo)
    if hf.get_token() is None:
        raise BundleError(f"pushing to {repo} wants a token that may write: {hub.LOG_IN}")
    api = hf.HfApi()
    try:
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise BundleError(
                f"{repo} is there already, and public; nothing was pushed: make it private on "
                "the Hub first, or push to another name"
            )
        files: dict[str, Path | bytes] = {name: folder / name for name in names}
        if overwrite_card or not api.file_exists(repo, _CARD):
            files[_CARD] = card.encode()
        files[MANIFEST] = folder / MANIFEST
        done = api.create_commit(
            repo,
            [hf.CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message="A bundle of bareclip",
        )
    except Exception as error:  # its transports' errors share no base across its versions
        raise hub.refusal(hf, error, repo, "cannot push: ") from error
    return f"{hf.constants.ENDPOINT}/{repo}/tree/{done.oid}"

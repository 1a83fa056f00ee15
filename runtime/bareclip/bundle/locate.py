"""Where a bundle is: a folder, a repository on the Hub, or the demo model."""

import os
from pathlib import Path

from . import hub
from .bundle import DEMO


def find_bundle(name: str | os.PathLike[str] | None) -> Path:
    """The folder of a bundle that a user names.

    Args:
        name: A folder; or, as a string that is no folder here, a repository on the Hub,
            ``"owner/name"`` or ``"owner/name@revision"``, of which the manifest is fetched
            now and the rest when the bundle is read; None is the demo model.

    Raises:
        BundleError: It looks like a repository, and that cannot be had, or is no bundle.
    """
    if name is None:
        return DEMO
    # Not expanduser(), which raises where there is no such user.
    folder = Path(os.path.expanduser(name)).absolute()  # noqa: PTH111
    if isinstance(name, str) and hub.is_name(name) and not folder.exists():
        return hub.find(name)
    return folder

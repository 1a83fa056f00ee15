"""Where a bundle is: a folder, or the demo model."""

import os
from pathlib import Path

from .bundle import DEMO


def find_bundle(name: str | os.PathLike[str] | None) -> Path:
    """The folder of a bundle that a user names.

    Args:
        name: A folder; None is the demo model.
    """
    if name is None:
        return DEMO
    # Not expanduser(), which raises where there is no such user.
    return Path(os.path.expanduser(name)).absolute()  # noqa: PTH111

"""Where a folder of sentence-transformers has its CLIP: in a folder within."""

import json
from pathlib import Path
from typing import Any

from bareclip.errors import short

from .errors import CheckpointError

MODULES = "modules.json"


def clip_folder(folder: Path) -> Path:
    """Where the CLIP of a model of sentence-transformers lies; the folder itself of any other.

    Older versions have a folder for each module, newer ones the first module's files beside
    modules.json.

    Raises:
        CheckpointError: More is computed than CLIP does, or its modules are unreadable.
    """
    path = folder / MODULES
    if not path.is_file():
        return folder
    try:
        modules: Any = json.loads(path.read_text("utf-8"))
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        inner = str(modules[0]["path"])
    except (OSError, ValueError, RecursionError, TypeError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"cannot read {path}: {short(str(error))}; download it again"
        ) from error
    # The vectors of a bundle are of length 1 in any case.
    if kinds[0] not in ("CLIPModel", "Transformer") or kinds[1:] not in ([], ["Normalize"]):
        raise CheckpointError(
            f"{folder} is of sentence-transformers, with the modules "
            f"{short(', '.join(kinds))[1:-1]}; we author a CLIPModel alone, as clip-ViT-B-32 is"
        )
    if inner and (Path(inner).name != inner or inner == ".."):
        raise CheckpointError(f"{path} has its CLIPModel in {short(inner)}, outside of the folder")
    return folder / inner

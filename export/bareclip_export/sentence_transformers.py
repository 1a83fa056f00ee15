"""What a folder of sentence-transformers holds: a CLIP, or a text model in modules."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bareclip.errors import short

from .errors import CheckpointError

MODULES = "modules.json"
# What a text model of theirs has: first one each of these, then any number of the others.
_FIRST, _LATER = ("Transformer", "Pooling"), ("Dense", "Normalize")


@dataclass(frozen=True)
class Module:
    """A module of theirs: what it is called, and where its files lie, in the model's folder."""

    kind: str
    path: str


def read_modules(folder: Path) -> list[Module]:
    """The modules of a model, one after another; none where the folder is not of theirs.

    Raises:
        CheckpointError: They are unreadable.
    """
    path = folder / MODULES
    if not path.is_file():
        return []
    try:
        data: Any = json.loads(path.read_text("utf-8"))
        found = [
            Module(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in data
        ]
        if not found:
            raise ValueError("it has no modules")
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"cannot read {path}: {short(str(error))}; download it again"
        ) from error
    for module in found:
        if module.path and (Path(module.path).name != module.path or module.path == ".."):
            raise CheckpointError(
                f"{path} has a {module.kind} in {short(module.path)}, outside of the folder"
            )
    return found


def clip_folder(folder: Path) -> Path:
    """Where a model of sentence-transformers has its first module; any other folder itself.

    Older versions have a folder for each module, newer ones the first module's files beside
    modules.json.

    Raises:
        CheckpointError: It is neither a CLIPModel nor a text model, or its modules are unreadable.
    """
    modules = read_modules(folder)
    kinds = tuple(module.kind for module in modules)
    if not kinds:
        return folder
    # The vectors of a bundle are of length 1 in any case.
    clip = kinds[0] in ("CLIPModel", "Transformer") and kinds[1:] in ((), ("Normalize",))
    if not clip and not is_text_model(kinds):
        raise CheckpointError(
            f"{folder} is of sentence-transformers, with the modules "
            f"{short(', '.join(kinds))[1:-1]}; we author a CLIPModel alone, as clip-ViT-B-32 is, "
            "or a text model of Transformer, Pooling and Dense"
        )
    return folder / modules[0].path


def text_modules(folder: Path) -> tuple[Path, list[Module]] | None:
    """The folder and the modules of a text model, by where its first module lies; None of others.

    Raises:
        CheckpointError: They are unreadable.
    """
    for root in (folder, folder.parent):
        modules = read_modules(root)
        kinds = tuple(module.kind for module in modules)
        if is_text_model(kinds) and root / modules[0].path == folder:
            return root, modules
    return None


def is_text_model(kinds: tuple[str, ...]) -> bool:
    """Whether modules of these kinds make a vector of a text."""
    return kinds[:2] == _FIRST and set(kinds[2:]) <= {*_LATER}

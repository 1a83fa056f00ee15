"""A checkpoint on disk: where it is, what its config says, what tensors it has.

A folder may hold a model in Hugging Face's layout, in OpenCLIP's, or in both, as LAION's do.
OpenCLIP's is then the one that is read: the other was converted from it. A file of weights alone
is one of OpenCLIP's, which somebody has to name.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bareclip.errors import short

from . import hub
from .errors import CheckpointError
from .files import ANCHORS, CONFIGS, WEIGHTS, Layout
from .open_clip_models import config_of_name, config_of_openai
from .pickle_weights import is_program, read_pickle_weights
from .sentence_transformers import clip_folder
from .tensors import Tensor, TensorStore, unwrapped

# tokenizer.json is the largest that is read: 34 MB with 256,000 tokens.
_LONGEST_JSON = 256 << 20


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        folder: Where its files lie.
        name: As its user calls it: ``owner/name``, or the folder's name.
        revision: The commit it was downloaded at; None for a local folder.
        layout: Whose files they are.
        config: Its config.json or open_clip_config.json, or what stands for it.
        config_path: Where that came from, for messages.
        weights: The file of its weights, where that goes by a name of its own.
    """

    folder: Path
    name: str
    revision: str | None
    layout: Layout
    config: dict[str, Any]
    config_path: str
    weights: Path | None = None

    @classmethod
    def open(
        cls, source: str, graphs: Sequence[str] = (), model: str | None = None
    ) -> "Checkpoint":
        """Finds a checkpoint.

        Args:
            source: A folder, a file of weights, or a name to download: ``owner/name`` or
                ``owner/name@revision``.
            graphs: Which of its files are wanted rather than its weights.
            model: Which of OpenCLIP's the weights of a file are, as ``config_of_name`` has it.

        Raises:
            CheckpointError: There is none, or it has no readable config.
        """
        folder, revision = Path(source).expanduser(), None
        name = folder.resolve().name
        if folder.is_file():
            return cls._of_file(folder, model)
        if model is not None:
            raise CheckpointError(
                f"--model is for a file of weights, such as epoch_5.pt, and {source} is no file "
                "here; a folder or a name on the Hub has a configuration of its own: leave it out"
            )
        if not folder.is_dir():
            folder, revision = hub.download(source, graphs)
            name = source.partition("@")[0]
        folder = folder if graphs else clip_folder(folder)
        layout = "huggingface" if graphs else _layout(folder)
        if graphs and not (folder / CONFIGS["huggingface"]).is_file():
            raise CheckpointError(
                f"{source} has no config.json, without which its graphs cannot be imported; give a "
                "folder in the layout of Xenova/clip-vit-base-patch32"
            )
        if layout is None:
            raise CheckpointError(
                f"{source} is not a checkpoint: it has neither config.json nor "
                "open_clip_config.json; give a folder in the layout of "
                "openai/clip-vit-base-patch32, or in OpenCLIP's"
            )
        path = folder / CONFIGS[layout]
        return cls(folder, name, revision, layout, read_json(path), str(path))

    @classmethod
    def _of_file(cls, path: Path, model: str | None) -> "Checkpoint":
        """Weights alone; a tokenizer lies beside them.

        Raises:
            CheckpointError: What model they are of is not known.
        """
        beside = path.parent / CONFIGS["open_clip"]
        if model is not None:
            config, where = config_of_name(model), f"OpenCLIP's {model}"
        elif beside.is_file():
            config, where = read_json(beside), str(beside)
        else:
            known = config_of_openai(_read_weights(path)) if is_program(path) else None
            if known is None and (path.parent / CONFIGS["huggingface"]).is_file():
                raise CheckpointError(
                    f"{path} is a part of a checkpoint in Hugging Face's layout: give its folder, "
                    f"{path.parent}"
                )
            if known is None:
                raise CheckpointError(
                    f"{path} does not say what model its weights are of: give one of OpenCLIP's by "
                    "--model, such as ViT-B-32 or ViT-B-32-quickgelu, or put an "
                    "open_clip_config.json beside it"
                )
            config, where = known, f"the shapes in {path.name}"
        return cls(path.parent, path.stem, None, "open_clip", config, where, path)

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the checkpoint, None where it has no such file."""
        path = self.folder / name
        return read_json(path) if path.is_file() else None

    def holds(self, name: str) -> bool:
        """Whether it has that file, and not elsewhere: a link may lead to the Hub's blobs only.

        Raises:
            CheckpointError: It is a link to outside.
        """
        path, root = self.folder / name, self.folder.resolve()
        if not path.is_file():
            return False
        roots = [root]
        if root.parent.name == "snapshots":
            roots.append(root.parents[1] / "blobs")
        if not any(path.resolve().is_relative_to(inside) for inside in roots):
            raise CheckpointError(
                f"{path} is a link to {path.resolve()}, outside of {self.folder}: copy it there"
            )
        return True

    def license(self) -> str | None:
        """What the model card's front matter says; None where it says nothing."""
        card = self.folder / "README.md"
        if not card.is_file():
            return None
        front = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", errors="replace"), re.S)
        found = front and re.search(r"^license:\s*(\S+)\s*$", front[1], re.M)
        return found[1] if found else None

    @cached_property
    def tensors(self) -> TensorStore:
        """Its weights, from safetensors where it has them, else from PyTorch's pickles.

        Raises:
            CheckpointError: No weights, or damaged or refused ones.
        """
        safe, pickled = WEIGHTS[self.layout]
        paths = [self.weights] if self.weights else []
        paths = paths or self._weight_files(safe) or self._weight_files(pickled)
        if not paths:
            raise CheckpointError(
                f"{self.folder} has no weights: neither {safe} nor {pickled} "
                "(nor their .index.json); download it again"
            )
        tensors: dict[str, Tensor] = {}
        for path in paths:
            tensors |= _read_weights(path)
        source = str(self.weights or self.folder)
        tensors = unwrapped(tensors, ANCHORS[self.layout], source)
        if self.weights:
            return TensorStore(tensors, source, self.config_path, "give another --model")
        return TensorStore(tensors, source)

    def _weight_files(self, name: str) -> list[Path]:
        """The file of that name, or the shards its index names."""
        if (self.folder / name).is_file():
            return [self.folder / name]
        index = self.json(f"{name}.index.json")
        if index is None:
            return []
        weight_map = index.get("weight_map")
        shards = list(weight_map.values()) if isinstance(weight_map, dict) else []
        if not shards or any(type(shard) is not str or len(shard) > 255 for shard in shards):
            raise CheckpointError(
                f"{self.folder / name}.index.json has no weight_map of tensors to files; download "
                "it again"
            )
        paths = [self.folder / shard for shard in sorted(set(shards))]
        for path in paths:
            # An index may not reach outside the checkpoint.
            if path.parent != self.folder or "\0" in path.name or not path.is_file():
                raise CheckpointError(
                    f"shard {short(path.name)} of {self.folder / name}.index.json is missing; "
                    "download the checkpoint again"
                )
        return paths


def _layout(folder: Path) -> Layout | None:
    """Whose layout a folder is in, by its config, and by its weights where it has both."""
    found: list[Layout] = [
        layout for layout in ("open_clip", "huggingface") if (folder / CONFIGS[layout]).is_file()
    ]
    whole = [
        layout
        for layout in found
        if any(path for name in WEIGHTS[layout] for path in folder.glob(f"{name}*"))
    ]
    return next(iter(whole or found), None)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that must hold an object.

    Raises:
        CheckpointError: It cannot be read, or holds something else.
    """
    try:
        if (size := path.stat().st_size) > _LONGEST_JSON:
            raise CheckpointError(f"{path} has {size} bytes, more than such a file needs")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; download it again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a {type(data).__name__}, not an object")
    return data


def _read_weights(path: Path) -> dict[str, Tensor]:
    return (_read_safetensors if path.suffix == ".safetensors" else read_pickle_weights)(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "numpy") as file:
            return {
                name: Tensor(
                    tuple(file.get_slice(name).get_shape()), partial(_read_tensor, path, name)
                )
                for name in file.keys()  # noqa: SIM118 (no mapping)
            }
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}; download it again"
        ) from error


def _read_tensor(path: Path, name: str) -> Any:
    # Opened anew for each tensor, so that pages already read do not stay mapped: a
    # process's memory would otherwise grow by the whole file.
    try:
        with safe_open(path, "numpy") as file:
            return file.get_tensor(name)
    # What NumPy has no numbers for, as 8-bit floats, fails in several ways.
    except (SafetensorError, OSError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"cannot read tensor {name!r} of {path}: {error}; weights are to be in float32, "
            "float16 "
            "or bfloat16"
        ) from error

"""Label matrices of many prompts, kept in the user's cache for later processes.

ImageNet's 1,000 labels in 80 templates are 80,000 texts: minutes of work for 2 MB. An entry is
named for all that its vectors depend on, to the last bit: the text tower's and the tokenizer's
files, the recipe, the language, the precision, the device and the version of what computes there,
the prompts and how they are put together. It holds the same in words, which are compared when it
is read, and its vectors have checksums. The cache costs disk only: whatever goes wrong with it,
the texts are embedded.
"""

import contextlib
import hashlib
import io
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import TOKENIZER, Bundle, file_record
from ..files import read_file, replacing
from ..files.npz import read_npz, write_npz
from ..files.user_cache import cache_folder, usable_cache
from ..inference.device import stored
from ..inference.graph_cache import cpu_kind
from ..inference.installation import import_onnxruntime, package_version
from ..scoring.vectors import UNIT_TOLERANCE
from ..scoring.zero_shot import LabelMatrix, Prompts
from .text_encoder import TextEncoder

# Most that the entries may hold; what was used longest ago goes first.
LIMIT_BYTES = 512 * 1024**2
# Fewer prompts are embedded in the time that a process takes to start: not worth an entry.
SMALLEST_PROMPTS = 64

_ENDING = ".labels.npz"
_ABANDONED_SECONDS = 3600


@dataclass(frozen=True)
class Entry:
    """A label matrix that is kept.

    Attributes:
        path: Where it lies.
        bundle: The model's name.
        labels: How many.
        prompts: How many they were embedded in.
        size: Bytes.
        used: When it was last read, in seconds since 1970.
    """

    path: Path
    bundle: str
    labels: int
    prompts: int
    size: int
    used: float


class LabelCache:
    """The matrices of one model."""

    def __init__(self, bundle: Bundle, encoder: TextEncoder) -> None:
        self._bundle = bundle
        self._encoder = encoder

    def find(self, asked: Prompts) -> LabelMatrix | None:
        """The matrix of these prompts, if it is kept and whole."""
        folder = usable_cache()
        if folder is None:
            return None
        about = self._about(asked)
        path = _place(folder, about)
        try:
            found = read_npz(io.BytesIO(read_file(path, LIMIT_BYTES)))
        except (OSError, ValueError):
            return None
        if found.keys() != {"about", "vectors"} or found["about"].tobytes() != about:
            return None
        vectors = found["vectors"]
        if not self._fits(vectors, asked):
            return None
        with contextlib.suppress(OSError):  # a read-only cache is still of use
            path.touch()
        return LabelMatrix(asked.labels, vectors)

    def keep(self, asked: Prompts, matrix: LabelMatrix) -> None:
        """Puts a matrix there, unless it is too large."""
        folder = usable_cache()
        if folder is None or matrix.vectors.nbytes > LIMIT_BYTES // 2:
            return
        about = self._about(asked)
        arrays: dict[str, NDArray[Any]] = {
            "about": np.frombuffer(about, np.uint8),
            "vectors": matrix.vectors,
        }
        with contextlib.suppress(OSError):
            if self._is_whole():
                with replacing(_place(folder, about)) as file:
                    write_npz(file, arrays)
                _make_room(folder)

    def _is_whole(self) -> bool:
        """Whether the bundle's files are those of its manifest, which the entry will name.

        Else a bundle that claims another's checksums would answer for that one.
        """
        bundle = self._bundle
        files = dict(bundle.tower(stored(self._encoder.precision), "text").files)
        if bundle.tokenizer is not None:
            files[TOKENIZER] = bundle.tokenizer
        return all(file_record(bundle.folder / name) == record for name, record in files.items())

    def _fits(self, vectors: NDArray[Any], asked: Prompts) -> bool:
        templates = 1 if asked.ensemble == "embedding" else len(asked.texts) // len(asked.labels)
        if vectors.dtype != np.float32 or vectors.shape != (
            templates, len(asked.labels), self._bundle.embedding_dim,
        ):  # fmt: skip
            return False
        lengths = np.sqrt(np.einsum("tld,tld->tl", vectors, vectors))
        return bool((np.abs(lengths - 1) < UNIT_TOLERANCE).all())

    def _about(self, asked: Prompts) -> bytes:
        """All that the vectors depend on, in JSON."""
        bundle, encoder = self._bundle, self._encoder
        described = {
            "bundle": bundle.name,
            "tokenizer": bundle.tokenizer,
            "tower": bundle.tower(stored(encoder.precision), "text").files,
            "recipe": encoder.recipe,
            "language": encoder.language,
            "precision": encoder.precision,
            "engine": _engine(encoder.device),
            "ftfy": package_version("ftfy") if "fix_text" in encoder.recipe.clean_up else None,
            "ensemble": asked.ensemble,
            "prompts": len(asked.texts),
            "texts": _digest(json.dumps(asked.texts).encode()),
            "labels": asked.labels,
        }
        return json.dumps(described, default=asdict, sort_keys=True).encode()


def entries() -> list[Entry]:
    """All that are kept, the last used first."""
    found = []
    for path in _paths(cache_folder()):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with path.open("rb") as file:
                about = json.loads(read_npz(file, "about")["about"].tobytes())
            status = path.stat()
            name, labels = str(about["bundle"]), len(about["labels"])
            prompts = int(about["prompts"])
            found.append(Entry(path, name, labels, prompts, status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def clear() -> int:
    """Removes every one, whole or not; returns how many bytes that freed."""
    return sum(_remove(path) for path in _paths(cache_folder(), "*"))


def _paths(folder: Path | None, rest: str = "") -> list[Path]:
    """Files of the cache that are its own by their names; with ``"*"`` also unfinished ones."""
    if folder is None:
        return []
    found = folder.glob("[0-9a-f]" * 40 + _ENDING + rest)
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _place(folder: Path, about: bytes) -> Path:
    return folder / f"{_digest(about)[:40]}{_ENDING}"


def _make_room(folder: Path) -> None:
    """Removes what was used longest ago, and what killed processes left."""
    status = [(path, path.stat()) for path in _paths(folder)]
    total = 0
    for path, stat in sorted(status, key=lambda one: -one[1].st_mtime):
        total += stat.st_size
        if total > LIMIT_BYTES:
            _remove(path)
    for path in _paths(folder, ".*.part"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            _remove(path)


def _remove(path: Path) -> int:
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        path.unlink()
        return size
    return 0


def _engine(device: str) -> str:
    """What computes there, in which version, on which kind of processor."""
    if device.startswith("cuda"):
        return f"cuda, ONNX Runtime {import_onnxruntime().__version__}"
    if device.startswith("openvino"):
        engine = f"{device}, OpenVINO {package_version('openvino')}"
    else:
        engine = f"{device}, ONNX Runtime {import_onnxruntime().__version__}"
    return f"{engine}, {_digest(cpu_kind().encode())}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

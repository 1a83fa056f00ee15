"""CLIP without PyTorch: image and text embeddings on ONNX Runtime, NumPy and Pillow."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .bundle import Bundle
from .classifier import Classifier
from .clip import Clip, load, load_classifier
from .encoders import ImageEncoder, TextEncoder
from .encoders.fingerprint import Fingerprint
from .errors import (
    BareclipError,
    BundleError,
    ClassifierError,
    DeviceError,
    ImageError,
    ShardError,
    StoreError,
    TextError,
    VectorError,
)
from .images.inputs import ImageInput
from .images.pixels import Reading
from .types import (
    Failure,
    Hit,
    IndexHit,
    PartialEmbeddings,
    Prediction,
    Tagged,
    TeachingReport,
    Vectors,
)

if TYPE_CHECKING:
    from .index import (
        Duplicate,
        DuplicateGroup,
        FileFailure,
        Index,
        IndexStatus,
        Like,
        MapPoint,
        Mix,
        Overview,
        SyncProgress,
        SyncReport,
        TagReport,
    )

__all__ = [
    "BareclipError",
    "Bundle",
    "BundleError",
    "Classifier",
    "ClassifierError",
    "Clip",
    "DeviceError",
    "Duplicate",
    "DuplicateGroup",
    "Failure",
    "FileFailure",
    "Fingerprint",
    "Hit",
    "ImageEncoder",
    "ImageError",
    "ImageInput",
    "Index",
    "IndexHit",
    "IndexStatus",
    "Like",
    "MapPoint",
    "Mix",
    "Overview",
    "PartialEmbeddings",
    "Prediction",
    "Reading",
    "ShardError",
    "StoreError",
    "SyncProgress",
    "SyncReport",
    "TagReport",
    "Tagged",
    "TeachingReport",
    "TextEncoder",
    "TextError",
    "VectorError",
    "Vectors",
    "__version__",
    "load",
    "load_classifier",
]

__version__ = "0.2.0"

# The photo index brings SQLite along, so it is imported when it is first asked for.
_OF_THE_INDEX = {
    "Duplicate", "DuplicateGroup", "FileFailure", "Index", "IndexStatus", "Like", "MapPoint", "Mix",
    "Overview", "SyncProgress", "SyncReport", "TagReport",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _OF_THE_INDEX:
        return getattr(import_module(".index", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

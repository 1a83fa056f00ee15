"""CLIP without PyTorch: image and text embeddings on ONNX Runtime, NumPy and Pillow."""

from typing import TYPE_CHECKING, Any

from .clip import Classifier, Clip, load
from .errors import (
    BareclipError,
    BundleError,
    DeviceError,
    ImageError,
    StoreError,
    TextError,
    VectorError,
)
from .results import Failure, Hit, IndexHit, PartialEmbeddings
from .zero_shot import Prediction

if TYPE_CHECKING:
    from .index import Index

__all__ = [
    "BareclipError",
    "BundleError",
    "Classifier",
    "Clip",
    "DeviceError",
    "Failure",
    "Hit",
    "ImageError",
    "Index",
    "IndexHit",
    "PartialEmbeddings",
    "Prediction",
    "StoreError",
    "TextError",
    "VectorError",
    "__version__",
    "load",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The photo index, which brings SQLite along, when it is first asked for."""
    if name == "Index":
        from .index import Index

        return Index
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

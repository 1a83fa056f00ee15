"""CLIP without PyTorch: image and text embeddings on ONNX Runtime, NumPy and Pillow."""

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
from .index import Index
from .results import Failure, Hit, IndexHit, PartialEmbeddings
from .zero_shot import Prediction

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

"""The bundle: its format, read strictly, and where one is found."""

from .bundle import DEMO, FORMAT_VERSION, MANIFEST, TOKENIZER, TOWERS, Bundle, file_record
from .format import (
    CleanUp,
    Fidelity,
    FileRecord,
    ImageRecipe,
    Interpolation,
    Parity,
    Scoring,
    Source,
    TextRecipe,
    TowerFidelity,
    TowerFiles,
)

__all__ = [
    "DEMO",
    "FORMAT_VERSION",
    "MANIFEST",
    "TOKENIZER",
    "TOWERS",
    "Bundle",
    "CleanUp",
    "Fidelity",
    "FileRecord",
    "ImageRecipe",
    "Interpolation",
    "Parity",
    "Scoring",
    "Source",
    "TextRecipe",
    "TowerFidelity",
    "TowerFiles",
    "file_record",
]

"""The bundle: its format, read strictly, and where one is found."""

from .bundle import DEMO, FORMAT_VERSION, TOKENIZER, TOWERS, Bundle
from .format import (
    MANIFEST,
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
    file_record,
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

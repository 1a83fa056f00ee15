"""What a bundle's manifest holds: every constant that a runtime needs, and the reports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..files import file_sha256

MANIFEST = "bundle.json"
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
CleanUp = Literal[
    "fix_text",
    "unescape_html",
    "underscores_to_spaces",
    "remove_punctuation",
    "lowercase",
    "collapse_whitespace",
    "sep_to_pad",
]


@dataclass(frozen=True)
class Source:
    """Where the weights came from. ``revision`` and ``license`` are None where unstated."""

    checkpoint: str
    revision: str | None
    license: str | None
    architecture: str
    exporter: str


@dataclass(frozen=True)
class Scoring:
    """How cosines become probabilities: function(exp(logit_scale) * cosine + logit_bias)."""

    function: Literal["softmax", "sigmoid"]
    logit_scale: float
    logit_bias: float


@dataclass(frozen=True)
class ImageRecipe:
    """From a decoded picture to the pixels the vision tower takes.

    Attributes:
        size: Height and width of the pixels.
        resize: ``"shortest"`` scales the shorter side to ``resize_to`` and crops the
            centre; ``"squash"`` stretches to a ``resize_to`` square, then crops it.
        resize_to: Pixels.
        interpolation: A Pillow filter.
        crop_offset: What becomes of half a pixel: ``"floor"`` (Hugging Face) or
            ``"round"`` (torchvision; OpenAI).
        mean, std: Of the normalisation (pixel * scale - mean) / std, by channel. In a
            ``"uint8_nhwc"`` graph it is folded into the first layer.
        scale: 1/255 as a rule.
        layout: What the graph takes.
    """

    size: int
    resize: Literal["shortest", "squash"]
    resize_to: int
    interpolation: Interpolation
    crop_offset: Literal["floor", "round"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float
    layout: Literal["uint8_nhwc"]


@dataclass(frozen=True)
class TextRecipe:
    """From a string to the ids the text tower takes.

    Attributes:
        context_length: Most tokens, start and end included.
        pad_id: Fills a batch up to its longest text.
        end_id: The end token, kept when a text is truncated.
        fixed_length: Whether every text is filled up to ``context_length``, as a tower wants
            that also looks at what pads a text.
        clean_up: What is done to a text before tokenizer.json sees it, in this order.
    """

    context_length: int
    pad_id: int
    end_id: int
    fixed_length: bool
    clean_up: tuple[CleanUp, ...]


@dataclass(frozen=True)
class FileRecord:
    """A file's size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


def file_record(path: Path) -> FileRecord:
    """Measures a file."""
    return FileRecord(path.stat().st_size, file_sha256(path))


@dataclass(frozen=True)
class Parity:
    """What verification measured when the tower was made.

    Attributes:
        reference: What it was compared with.
        max_difference: Largest absolute difference between normalised vectors.
        min_cosine: Smallest cosine between a vector and its reference.
        inputs: How many inputs were compared.
    """

    reference: str
    max_difference: float
    min_cosine: float
    inputs: int


@dataclass(frozen=True)
class TowerFiles:
    """One tower at one precision: its graph, the graph's inputs, its files by name.

    Attributes:
        recipe: How its numbers are kept, in words.
        onnxruntime: The oldest version that runs it, such as ``"1.18"``.
        parity: What fp32 was held to; other precisions have a ``Fidelity`` instead. A whole
            graph has what it was held to at any precision.
    """

    graph: str
    recipe: str
    onnxruntime: str
    inputs: tuple[str, ...]
    files: dict[str, FileRecord]
    parity: Parity | None


@dataclass(frozen=True)
class PixelParity:
    """What verification measured when the graph that resizes was made.

    Attributes:
        reference: What it was compared with.
        max_levels: Largest difference of a value, of 255.
        differing: Share of values that differ at all, from 0 to 1.
        pictures: How many were compared.
    """

    reference: str
    max_levels: int
    differing: float
    pictures: int


@dataclass(frozen=True)
class ResizeFiles:
    """The graph from a picture to the vision tower's pixels; fields as ``TowerFiles`` has them."""

    graph: str
    onnxruntime: str
    inputs: tuple[str, ...]
    files: dict[str, FileRecord]
    parity: PixelParity


@dataclass(frozen=True)
class Whole:
    """Graphs of pictures as they are decoded, for devices without an image library.

    Attributes:
        resize: From a picture to the vision tower's pixels.
        towers: precision -> from a picture to its vector. Weights are the vision tower's, in its
            file.
    """

    resize: ResizeFiles
    towers: dict[str, TowerFiles]


@dataclass(frozen=True)
class TowerFidelity:
    """How near a tower at some precision comes to itself at fp32.

    Attributes:
        inputs: How many images or texts were compared.
        mean_cosine, p1_cosine, min_cosine: Between vectors of the two: mean, first
            percentile, least.
        batch_difference: Largest absolute difference in a vector when its input is embedded
            alone and among others.
        speed_ratio: Of the rates on the machine that measured; above 1 is faster than fp32.
            None for fp16 without CUDA, where it is not meant to run.
    """

    inputs: int
    mean_cosine: float
    p1_cosine: float
    min_cosine: float
    batch_difference: float
    speed_ratio: float | None


@dataclass(frozen=True)
class Fidelity:
    """How near a precision comes to fp32.

    Attributes:
        data: What it was judged on; none of it was used to make it.
        towers: By name.
        top1_agreement: Share of images whose nearest text is the same at both, from 0 to 1;
            None for a tower alone.
        recall1_change: Of recall@1, the mean of both directions, in points of a hundred;
            None where no image had captions.
        forced: Whether it was kept in spite of falling under the floor.
    """

    data: str
    towers: dict[str, TowerFidelity]
    top1_agreement: float | None
    recall1_change: float | None
    forced: bool

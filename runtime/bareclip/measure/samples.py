"""Pictures and texts to check a tower on where its user gives none; seeded."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

AWKWARD_TEXTS = [
    "a photo of a cat",
    "a diagram",
    "Two dogs run along the beach at sunset; the smaller one carries a red stick.",
    "",
    "naïve café — 100 % “quoted” text, 東京 🐱",
    "a very long caption that goes on and on " * 12,
]

_THINGS = (
    "cat", "dog", "bird", "fish", "car", "flower", "tree", "house", "horse", "boat", "street",
    "plate of food", "child", "mountain", "beach", "sunset", "train", "bicycle", "chair", "book",
    "clock", "bus", "elephant", "pizza", "umbrella", "kitchen",
)  # fmt: skip

TEXTS = [*(f"a photo of a {thing}" for thing in _THINGS), *AWKWARD_TEXTS]


def prompts(count: int) -> list[str]:
    """Distinct texts of some seven tokens that begin with the same five."""
    return [f"a photo of a {_THINGS[i % len(_THINGS)]}{_nth(i)}" for i in range(count)]


def unlike_texts(count: int) -> list[str]:
    """As many texts, as long, of which hardly two begin with the same word."""
    things = len(_THINGS)
    return [
        f"{_THINGS[i % things]} beside a {_THINGS[(5 * i + 3) % things]}{_nth(i)}"
        for i in range(count)
    ]


def _nth(i: int) -> str:
    return "" if i < len(_THINGS) else f" {i // len(_THINGS) + 1}"


def drawn_pixels(size: int, count: int) -> NDArray[np.uint8]:
    """Pictures like scenes, drawn ones and, every fourth, noise.

    Args:
        size: Pixels a side.
        count: How many.

    Returns:
        (count, size, size, 3) uint8, always the same.
    """
    makers = (_scene, _drawing, _scene, _noise)
    return np.stack([makers[i % 4](size, np.random.default_rng((0, i))) for i in range(count)])


def _noise(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (size, size, 3), dtype=np.uint8)


def _scene(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Coloured noise whose amplitude falls with frequency as in natural scenes.

    Field 1987, "Relations between the statistics of natural images and the response
    properties of cortical cells".
    """
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1
    phases = np.exp(2j * np.pi * rng.random((3, *frequency.shape)))
    waves = np.fft.irfft2(phases / frequency, s=(size, size))
    scaled = waves / waves.std(axis=(1, 2), keepdims=True) * 50 + 120
    return scaled.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def _drawing(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Flat colours and sharp edges."""
    colours = [tuple(int(v) for v in colour) for colour in rng.integers(0, 256, (5, 3))]
    image = Image.new("RGB", (size, size), colours[0])
    pen = ImageDraw.Draw(image)
    for number, colour in enumerate(colours[1:]):
        (x, y), (width, height) = rng.uniform(0, 0.7, 2), rng.uniform(0.15, 0.6, 2)
        box = [x * size, y * size, (x + width) * size, (y + height) * size]
        (pen.ellipse if number % 2 else pen.rectangle)(box, fill=colour)
    return np.asarray(image)

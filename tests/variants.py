"""The small checkpoints that tests convert, and the inputs they are asked about."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.seeded.clip import SIZES, Sizes, Tower

# Between them: both activations, both end-token rules, patches that do and do not fill
# the image, head widths that are and are not a power of four, one block and several.
VARIANTS = {
    "tiny": SIZES["tiny"],
    "odd": Sizes(
        Tower(40, 72, 1, 5), 30, 7, Tower(36, 100, 3, 2), 16, 12, activation="gelu", legacy_end=True
    ),
}

TEXTS = [
    "a photo of a cat",
    "",
    "dog",
    "Two HAPPY dogs\t run\n on the beach -- three red circles, 100% blue; it's a sunset!",
    "naïve café 東京 🐱 “quoted”",
    "cat " * 60,
]

# Width and height: landscape, portrait, square, exact, small, one pixel high or wide, and
# a difference of 3 from the crop, where the two ways of rounding half a pixel part.
SHAPES = [(97, 61), (61, 97), (64, 64), (32, 32), (9, 5), (70, 1), (1, 33), (35, 32), (640, 40)]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A drawn RGB picture with edges, a gradient and noise."""
    rng = np.random.default_rng([seed, width, height])
    ramp = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 55, height)[:, None, None]
    noise = rng.integers(-20, 20, (height, width, 3))
    image = Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse([width // 8, height // 8, width // 2, height // 2], fill=(200, 30, 60))
    draw.line([0, height - 1, width - 1, 0], fill=(10, 240, 90), width=3)
    return image


def batch(size: int, count: int) -> NDArray[np.uint8]:
    """(count, size, size, 3) uint8: dark, bright and drawn pixels."""
    rng = np.random.default_rng(size)
    pixels = rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    pixels[0] //= 16
    pixels[1] = 255 - pixels[1] // 16
    pixels[2] = np.asarray(picture(size, size))
    return pixels

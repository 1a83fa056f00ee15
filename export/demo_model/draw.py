"""Draws pictures: glyph and shape sprites placed with augmentation on drawn backgrounds.

Colours are RGB. A sprite is a premultiplied RGBA array; a picture is `uint8 [side, side, 3]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
Interval = tuple[float, float]

WHITE: Colour = (255, 255, 255)

SPRITE_SIDES = (128, 64, 32, 16)
"""Sprite sizes in pixels: each placing starts from the smallest one that is not enlarged."""


@dataclass(frozen=True)
class Ranges:
    """What the augmentation may do to a picture of one thing.

    Attributes:
        shares: Intervals for the thing's longest side as a share of the picture's side.
        turns: Intervals for its rotation in degrees; the sign is drawn too.
        backgrounds: Background kinds, keys of `BACKGROUNDS`.
        shear: Largest absolute shear and aspect change.
        blur: Largest blur radius as a share of the picture's side.
        noise: Largest standard deviation of pixel noise, on 0..255.
        light: Largest relative change of brightness, contrast and saturation.
        sticker: Chance of a dark or white outline round a glyph.
    """

    shares: tuple[Interval, ...]
    turns: tuple[Interval, ...]
    backgrounds: tuple[str, ...]
    shear: float = 0.15
    blur: float = 0.012
    noise: float = 10.0
    light: float = 0.3
    sticker: float = 0.25


TRAINING = Ranges(
    shares=((0.40, 0.55), (0.55, 0.75), (0.75, 0.90)),
    turns=((0.0, 30.0),),
    backgrounds=("plain", "gradient", "patches", "stripes", "mosaic", "clutter"),
)

HELD_OUT = Ranges(
    shares=((0.34, 0.40), (0.90, 1.05)),
    turns=((30.0, 45.0),),
    backgrounds=("checks", "dots", "rings", "bricks"),
)
"""Chosen before training: every size, turn and background here is unseen in training."""


@dataclass(frozen=True)
class Pose:
    """Where a sprite goes: centre and longest side as shares of the picture, turn in degrees."""

    x: float
    y: float
    share: float
    turn: float = 0.0
    aspect: float = 1.0
    shear: float = 0.0
    mirrored: bool = False


@dataclass(frozen=True)
class Sprite:
    """One drawing, premultiplied, at each of `SPRITE_SIDES`."""

    sides: tuple[Image.Image, ...]


def make_sprite(drawing: Image.Image) -> Sprite:
    """Crops an RGBA drawing to what is visible, squares it and keeps it at each size."""
    box = drawing.getbbox()
    if box is None:
        raise ValueError("the drawing is empty: the font has no such glyph")
    visible = drawing.crop(box)
    side = max(visible.size)
    square = Image.new("RGBA", (side, side))
    square.paste(visible, ((side - visible.width) // 2, (side - visible.height) // 2))
    premultiplied = square.convert("RGBa")
    return Sprite(
        tuple(premultiplied.resize((size, size), Image.Resampling.BOX) for size in SPRITE_SIDES)
    )


def outlined(drawing: Image.Image, colour: Colour, width: int) -> Image.Image:
    """Returns an RGBA drawing with a `width` pixel outline behind it."""
    padded = Image.new("RGBA", (drawing.width + 4 * width, drawing.height + 4 * width))
    padded.paste(drawing, (2 * width, 2 * width))
    spread = padded.getchannel("A").filter(ImageFilter.GaussianBlur(width))
    rim = spread.point([min(255, 8 * value) for value in range(256)])
    outline = Image.new("RGBA", padded.size, (*colour, 0))
    outline.putalpha(rim)
    outline.alpha_composite(padded)
    return outline


def load_glyph_font(path: Path, size: int = 109) -> ImageFont.FreeTypeFont:
    """Opens an emoji font; 109 is the only size Noto Color Emoji's bitmaps come in."""
    return ImageFont.truetype(str(path), size)


def draw_glyph(font: ImageFont.FreeTypeFont, glyph: str) -> Image.Image:
    """Draws one colour glyph on a transparent RGBA image."""
    drawing = Image.new("RGBA", (180, 180))
    ImageDraw.Draw(drawing).text((90, 90), glyph, font=font, embedded_color=True, anchor="mm")
    return drawing


def glyph_sprites(font: ImageFont.FreeTypeFont, glyph: str) -> tuple[Sprite, Sprite, Sprite]:
    """Returns a glyph plain, with a dark outline, and with a white one."""
    drawing = draw_glyph(font, glyph)
    return (
        make_sprite(drawing),
        make_sprite(outlined(drawing, (0, 0, 0), 3)),
        make_sprite(outlined(drawing, (255, 255, 255), 5)),
    )


def draw_shape(shape: str) -> Image.Image:
    """Draws one white shape, 128 pixels on its longest side, on a transparent RGBA image."""
    side, over = 128, 2
    mask = Image.new("L", (side * over, side * over))
    pen = ImageDraw.Draw(mask)
    scale = side * over - 1.0
    if shape == "ring":
        pen.ellipse((0, 0, scale, scale), fill=255)
        pen.ellipse((0.28 * scale, 0.28 * scale, 0.72 * scale, 0.72 * scale), fill=0)
    elif shape == "circle":
        pen.ellipse((0, 0, scale, scale), fill=255)
    elif shape == "oval":
        pen.ellipse((0, 0.24 * scale, scale, 0.76 * scale), fill=255)
    else:
        pen.polygon([(x * scale, y * scale) for x, y in shape_outline(shape)], fill=255)
    drawing = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    drawing.putalpha(mask.resize((side, side), Image.Resampling.BOX))
    return drawing


def shape_outline(shape: str) -> list[tuple[float, float]]:
    """Returns a polygon's corners in the unit square, y pointing down."""
    if shape == "square":
        return [(0.07, 0.07), (0.93, 0.07), (0.93, 0.93), (0.07, 0.93)]
    if shape == "triangle":
        return [(0.5, 0.05), (1.0, 0.93), (0.0, 0.93)]
    if shape == "diamond":
        return [(0.5, 0.0), (0.82, 0.5), (0.5, 1.0), (0.18, 0.5)]
    if shape == "hexagon":
        return _on_circle([0.5] * 6)
    if shape == "star":
        return _on_circle([0.5, 0.21] * 5)
    if shape == "cross":
        thin, thick = 0.33, 0.67
        return [
            (thin, 0), (thick, 0), (thick, thin), (1, thin), (1, thick), (thick, thick),
            (thick, 1), (thin, 1), (thin, thick), (0, thick), (0, thin), (thin, thin),
        ]  # fmt: skip
    if shape == "heart":
        angles = [2 * math.pi * step / 60 for step in range(60)]
        return [
            (
                0.5 + math.sin(t) ** 3 / 2,
                0.45
                - (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
                / 34,
            )
            for t in angles
        ]
    raise ValueError(f"no such shape: {shape!r}")


def _on_circle(radii: list[float]) -> list[tuple[float, float]]:
    turn = 2 * math.pi / len(radii)
    return [
        (0.5 + radius * math.sin(turn * step), 0.5 - radius * math.cos(turn * step))
        for step, radius in enumerate(radii)
    ]


def place(picture: Picture, sprite: Sprite, pose: Pose, tint: Colour = WHITE) -> Picture:
    """Returns the picture with a sprite over it, its colours multiplied by `tint`."""
    side = picture.shape[0]
    length = pose.share * side
    source = next(
        (image for image in reversed(sprite.sides) if image.width >= length), sprite.sides[0]
    )
    angle = math.radians(pose.turn)
    cosine, sine = math.cos(angle), math.sin(angle)
    across = source.width / length / pose.aspect * (-1 if pose.mirrored else 1)
    down = source.width / length
    # Output pixel -> source pixel: undo the turn, then the shear, then the scale.
    a, b = across * (cosine + pose.shear * sine), across * (sine - pose.shear * cosine)
    d, e = -down * sine, down * cosine
    middle = source.width / 2
    x, y = pose.x * side, pose.y * side
    placed = source.transform(
        (side, side),
        Image.Transform.AFFINE,
        (a, b, middle - a * x - b * y, d, e, middle - d * x - e * y),
        Image.Resampling.BILINEAR,
    )
    layer = np.asarray(placed).astype(np.uint16)
    ink = layer[:, :, :3]
    if tint != WHITE:
        ink = ink * np.array(tint, dtype=np.uint16) // 255
    behind = picture * (255 - layer[:, :, 3:]) // 255
    covered: Picture = np.minimum(behind + ink, 255).astype(np.uint8)
    return covered


def finish(picture: Picture, ranges: Ranges, rng: np.random.Generator) -> Picture:
    """Returns the picture with changed light, blur and noise."""
    side = picture.shape[0]
    pixels = picture.astype(np.float32)
    if rng.random() < 0.3:
        radius = rng.uniform(0, ranges.blur) * side
        blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius))
        pixels = np.asarray(blurred).astype(np.float32)
    brightness, contrast, saturation = 1 + rng.uniform(-ranges.light, ranges.light, 3)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * saturation
    pixels = (pixels - 128) * contrast + 128 * brightness
    if rng.random() < 0.3:
        scale = rng.uniform(0, ranges.noise)
        pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * scale
    finished: Picture = pixels.clip(0, 255).astype(np.uint8)
    return finished


def draw_from(intervals: tuple[Interval, ...], rng: np.random.Generator) -> float:
    """Draws uniformly from one of the intervals, each equally likely."""
    low, high = intervals[int(rng.integers(len(intervals)))]
    return float(rng.uniform(low, high))

"""Drawn backgrounds and landscapes. A picture is `uint8 [side, side, 3]`, RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Picture = NDArray[np.uint8]


def draw_background(kind: str, side: int, rng: np.random.Generator) -> Picture:
    """Draws one background of a kind named in a `Ranges`."""
    if kind == "plain":
        return _enlarged(_colours((1, 1), rng), side, Image.Resampling.NEAREST)
    if kind == "gradient":
        shape = ((1, 2), (2, 1), (2, 2))[int(rng.integers(3))]
        return _enlarged(_colours(shape, rng), side, Image.Resampling.BILINEAR)
    if kind == "patches":
        cells = int(rng.integers(3, 7))
        return _enlarged(_colours((cells, cells), rng), side, Image.Resampling.BILINEAR)
    if kind == "stripes":
        return _stripes(side, rng)
    if kind == "mosaic":
        rows, columns = (int(count) for count in rng.integers(2, 8, 2))
        return _enlarged(_colours((rows, columns), rng), side, Image.Resampling.NEAREST)
    if kind == "clutter":
        return _clutter(side, rng)
    if kind == "checks":
        return _checks(side, rng)
    if kind == "dots":
        return _dots(side, rng)
    if kind == "rings":
        return _rings(side, rng)
    if kind == "bricks":
        return _bricks(side, rng)
    raise ValueError(f"no such background: {kind!r}")


def plain_background(colour: tuple[int, int, int], side: int) -> Picture:
    """Returns a picture of one colour."""
    return np.full((side, side, 3), colour, dtype=np.uint8)


def _colours(shape: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Draws a grid of colours that keep near one another more often than not."""
    base = rng.uniform(0, 255, 3)
    spread = rng.uniform(10, 120)
    colours = base + rng.uniform(-spread, spread, (*shape, 3))
    clipped: Picture = colours.clip(0, 255).astype(np.uint8)
    return clipped


def _enlarged(grid: Picture, side: int, resample: Image.Resampling) -> Picture:
    return np.asarray(Image.fromarray(grid).resize((side, side), resample))


def _stripes(side: int, rng: np.random.Generator) -> Picture:
    across, down = rng.uniform(-1, 1, 2)
    bands = rng.uniform(2, 7)
    steps = np.linspace(0, 1, side, dtype=np.float32)
    wave = (steps[None, :] * across + steps[:, None] * down) * bands
    colours = _colours((1, 2), rng)[0]
    striped: Picture = colours[np.floor(wave).astype(np.int64) % 2]
    return striped


def _clutter(side: int, rng: np.random.Generator) -> Picture:
    """Strews ovals, boxes and lines of any colour."""
    colours = [tuple(int(v) for v in colour) for colour in _colours((1, 6), rng)[0]]
    picture = Image.new("RGB", (side, side), colours[0])
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(5, 26))):
        (x, y), (width, height) = rng.uniform(-0.1, 1.0, 2), rng.uniform(0.05, 0.35, 2)
        box = (x * side, y * side, (x + width) * side, (y + height) * side)
        colour = colours[int(rng.integers(1, len(colours)))]
        form = int(rng.integers(3))
        if form == 0:
            pen.ellipse(box, fill=colour)
        elif form == 1:
            pen.rectangle(box, fill=colour)
        else:
            pen.line(box, fill=colour, width=max(1, side // 24))
    return np.asarray(picture)


def _checks(side: int, rng: np.random.Generator) -> Picture:
    cells = int(rng.integers(3, 9))
    colours = _colours((1, 2), rng)[0]
    index = np.arange(cells)
    return _enlarged(colours[(index[:, None] + index[None, :]) % 2], side, Image.Resampling.NEAREST)


def _dots(side: int, rng: np.random.Generator) -> Picture:
    ground, ink = (tuple(int(v) for v in colour) for colour in _colours((1, 2), rng)[0])
    picture = Image.new("RGB", (side, side), ground)
    pen = ImageDraw.Draw(picture)
    step = side / rng.uniform(3, 7)
    radius = step * rng.uniform(0.15, 0.35)
    for x in np.arange(step / 2, side, step):
        for y in np.arange(step / 2, side, step):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return np.asarray(picture)


def _rings(side: int, rng: np.random.Generator) -> Picture:
    """Draws circles round a point that may lie outside the picture."""
    x, y = rng.uniform(-0.2, 1.2, 2)
    steps = np.linspace(0, 1, side, dtype=np.float32)
    radii = np.hypot(steps[None, :] - x, steps[:, None] - y) * rng.uniform(3, 9)
    ringed: Picture = _colours((1, 2), rng)[0][np.floor(radii).astype(np.int64) % 2]
    return ringed


def _bricks(side: int, rng: np.random.Generator) -> Picture:
    """Draws rows of bricks, every other row moved by half a brick."""
    brick, mortar = _colours((1, 2), rng)[0]
    rows = int(rng.integers(4, 10))
    steps = np.arange(side) / side * rows
    shift = np.floor(steps) % 2 / 2
    across = (steps[None, :] / 2 + shift[:, None]) % 1
    joint = (steps[:, None] % 1 < 0.16) | (across < 0.08)
    walled: Picture = np.where(joint[:, :, None], mortar, brick).astype(np.uint8)
    return walled


def _vertical(colours: list[tuple[int, int, int]], side: int, rng: np.random.Generator) -> Picture:
    column = np.array(colours, dtype=np.float64)[:, None, :] + rng.uniform(-18, 18, 3)
    clipped: Picture = column.clip(0, 255).astype(np.uint8)
    return _enlarged(clipped, side, Image.Resampling.BILINEAR)


def draw_scene(name: str, side: int, rng: np.random.Generator) -> Picture:
    """Draws one landscape of `concepts.SCENES` by its name."""
    if name == "sunset over the ocean":
        return _sunset(side, rng)
    if name == "calm ocean":
        return _sky_over([(30, 110, 190), (10, 60, 140)], (120, 190, 240), side, rng, waves=True)
    if name == "green field":
        return _sky_over([(110, 185, 70), (50, 130, 40)], (140, 205, 245), side, rng, waves=False)
    if name == "sandy beach":
        return _beach(side, rng)
    if name == "starry night":
        return _specks([(5, 5, 35), (25, 25, 80)], (255, 250, 220), side, rng, streak=0)
    if name == "rainy day":
        return _specks([(85, 95, 110), (130, 140, 150)], (170, 195, 225), side, rng, streak=0.12)
    if name == "snowy day":
        return _snow(side, rng)
    raise ValueError(f"no such scene: {name!r}")


def _rows(picture: Picture, start: float, below: Picture) -> Picture:
    """Returns the picture with rows from `start` (a share of the height) taken from `below`."""
    first = int(start * picture.shape[0])
    joined = picture.copy()
    joined[first:] = below[first:]
    return joined


def _with_waves(water: Picture, ink: tuple[int, int, int], rng: np.random.Generator) -> Picture:
    side = water.shape[0]
    image = Image.fromarray(water)
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(8, 18))):
        x, y = rng.uniform(-0.1, 1, 2) * side
        pen.line((x, y, x + rng.uniform(0.05, 0.25) * side, y), fill=ink, width=max(1, side // 64))
    return np.asarray(image)


def _sky_over(
    ground: list[tuple[int, int, int]],
    sky: tuple[int, int, int],
    side: int,
    rng: np.random.Generator,
    *,
    waves: bool,
) -> Picture:
    lower = _vertical(ground, side, rng)
    if waves:
        lower = _with_waves(lower, (150, 205, 240), rng)
    return _rows(_vertical([sky, (225, 240, 252)], side, rng), rng.uniform(0.3, 0.6), lower)


def _sunset(side: int, rng: np.random.Generator) -> Picture:
    horizon = rng.uniform(0.45, 0.65)
    sky = Image.fromarray(_vertical([(90, 50, 120), (240, 110, 60), (255, 200, 90)], side, rng))
    radius = rng.uniform(0.08, 0.2) * side
    x, y = rng.uniform(0.25, 0.75) * side, (horizon - rng.uniform(-0.05, 0.12)) * side
    sun = (255, int(rng.integers(170, 240)), int(rng.integers(60, 140)))
    ImageDraw.Draw(sky).ellipse((x - radius, y - radius, x + radius, y + radius), fill=sun)
    water = Image.fromarray(_vertical([(190, 90, 80), (50, 40, 90)], side, rng))
    pen = ImageDraw.Draw(water)
    for row in np.arange(horizon * side, side, side / 16):
        half = radius * rng.uniform(0.3, 1.0)
        pen.line((x - half, row, x + half, row), fill=sun, width=max(1, side // 64))
    return _rows(np.asarray(sky), horizon, np.asarray(water))


def _beach(side: int, rng: np.random.Generator) -> Picture:
    sea = _sky_over([(40, 150, 200), (70, 190, 215)], (130, 200, 245), side, rng, waves=True)
    sand = _vertical([(240, 220, 160), (215, 185, 120)], side, rng)
    return _rows(sea, rng.uniform(0.62, 0.78), sand)


def _specks(
    sky: list[tuple[int, int, int]],
    ink: tuple[int, int, int],
    side: int,
    rng: np.random.Generator,
    *,
    streak: float,
) -> Picture:
    image = Image.fromarray(_vertical(sky, side, rng))
    pen = ImageDraw.Draw(image)
    size = max(1, side // 64)
    for _ in range(int(rng.integers(18, 45))):
        x, y = rng.uniform(0, side, 2)
        if streak:
            pen.line((x, y, x - streak * side / 3, y + streak * side), fill=ink, width=size)
        else:
            radius = size * rng.uniform(0.5, 1.2)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return np.asarray(image)


def _snow(side: int, rng: np.random.Generator) -> Picture:
    sky = _specks([(120, 145, 175), (190, 205, 220)], (255, 255, 255), side, rng, streak=0)
    return _rows(
        sky, rng.uniform(0.6, 0.8), _vertical([(250, 250, 255), (225, 235, 245)], side, rng)
    )

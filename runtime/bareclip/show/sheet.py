"""Contact sheets: pictures in a grid with lines of text under them, as one picture."""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

THUMBNAIL = 176
_GAP = 16
_LINE = 20
_HEADING = 44
_INK, _FAINT, _PAPER = (28, 28, 30), (110, 110, 115), (250, 250, 248)


@dataclass(frozen=True)
class Cell:
    """A picture, and the lines under it, the first in darker ink."""

    image: Image.Image
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A heading and the cells under it."""

    heading: str
    cells: Sequence[Cell]


def contact_sheet(sections: Sequence[Section], columns: int) -> Image.Image:
    """Draws sections below each other.

    Args:
        sections: At least one, each with at least one cell.
        columns: Cells side by side.

    Returns:
        An RGB picture, ``columns`` thumbnails wide.
    """
    text = 2 * _LINE
    step = THUMBNAIL + text + _GAP
    rows = [-(-len(section.cells) // columns) for section in sections]
    width = columns * (THUMBNAIL + _GAP) + _GAP
    height = sum(_HEADING + count * step for count in rows) + _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = 0
    for section, count in zip(sections, rows, strict=True):
        _write(draw, (_GAP, top + _GAP), section.heading, 18, _INK, width - 2 * _GAP)
        for index, cell in enumerate(section.cells):
            left = _GAP + index % columns * (THUMBNAIL + _GAP)
            _draw_cell(sheet, draw, cell, left, top + _HEADING + index // columns * step)
        top += _HEADING + count * step
    return sheet


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, left: int, top: int
) -> None:
    thumbnail = ImageOps.contain(cell.image.convert("RGB"), (THUMBNAIL, THUMBNAIL))
    inset = (THUMBNAIL - thumbnail.width) // 2, THUMBNAIL - thumbnail.height
    sheet.paste(thumbnail, (left + inset[0], top + inset[1]))
    for index, line in enumerate(cell.lines):
        place = left, top + THUMBNAIL + 2 + index * _LINE
        _write(draw, place, line, 15, _FAINT if index else _INK, THUMBNAIL)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    room: int,
) -> None:
    """Writes a line, cut with an ellipsis where it exceeds ``room`` pixels."""
    font = ImageFont.load_default(size)
    if draw.textlength(text, font) > room:
        # By halves: an id may have thousands of letters.
        lengths = range(len(text))
        fitting = bisect(lengths, float(room), key=lambda n: draw.textlength(text[:n] + "…", font))
        text = text[: max(fitting - 1, 0)] + "…"
    draw.text(place, text, font=font, fill=colour)

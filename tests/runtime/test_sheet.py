import numpy as np
from PIL import Image

from bareclip.show.sheet import THUMBNAIL, Cell, Section, contact_sheet


def test_every_picture_and_every_line_is_on_the_sheet() -> None:
    colours = [(200, 0, 0), (0, 160, 0), (0, 0, 220), (200, 160, 0), (90, 0, 90)]
    cells = [
        Cell(Image.new("RGB", size, colour), ("a name", "0.5"))
        for colour, size in zip(
            colours, [(300, 300), (20, 80), (900, 30), (5, 5), (64, 64)], strict=True
        )
    ]
    sheet = contact_sheet([Section("first", cells[:4]), Section("second", cells[4:])], columns=3)
    found = {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3)[::7].tolist()}
    assert set(colours) <= found
    alone = contact_sheet([Section("first", [Cell(cells[0].image, ())])], columns=3)
    assert alone.width == sheet.width
    assert alone.height < sheet.height


def test_a_name_of_many_letters_is_cut_where_a_short_one_is() -> None:
    white = Image.new("RGB", (THUMBNAIL, THUMBNAIL), (250, 250, 248))
    letters = "a name of many letters " * 20
    sheets = [
        np.asarray(contact_sheet([Section(text, [Cell(white, (text,))])], columns=1))
        for text in (letters, letters * 50)
    ]
    np.testing.assert_array_equal(*sheets)
    assert (sheets[0] != sheets[0][0, 0]).any()


def test_long_names_stay_within_their_column() -> None:
    white = Image.new("RGB", (THUMBNAIL, THUMBNAIL), (250, 250, 248))
    sheet = contact_sheet([Section("x" * 500, [Cell(white, ("W" * 500, "é東" * 99))])], columns=1)
    pixels = np.asarray(sheet).astype(int)
    assert (pixels[:, -12:] == pixels[0, 0]).all()

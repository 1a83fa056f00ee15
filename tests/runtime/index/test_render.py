"""Answers as pictures: every hit is there, and no name can do harm."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from bareclip import IndexHit
from bareclip.files import printable
from bareclip.show.page import Answer, page, sheet
from tests.machine import needs_posix
from tests.variants import picture


class Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hits(folder: Path) -> list[IndexHit]:
    evil = folder / "\"><script>alert(1)</script>&<img src=x onerror='1'>.png".replace(
        "/", "\u2215"
    )
    Image.new("RGB", (900, 300), (200, 0, 0)).save(evil)
    turned = folder / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200), (0, 160, 0)).save(turned, exif=exif)
    clear = folder / "clear.png"
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(clear)
    (folder / "broken.png").write_bytes(b"x")
    items = [evil, turned, clear, folder / "broken.png", folder / "gone.png"]
    return [
        *(IndexHit(str(item), 0.5 - i / 10, None) for i, item in enumerate(items)),
        IndexHit("an id <b>", -0.1, {"a": 1}),
    ]


@needs_posix
def test_a_page_holds_every_hit_and_escapes_every_name(tmp_path: Path) -> None:
    html = page([Answer("a <b>query</b> & \udce9", hits(tmp_path)), Answer("nothing", [])])
    parser = Parser()
    parser.feed(html)
    tags = [tag for tag, _ in parser.tags]
    assert "script" not in tags
    assert "b" not in tags
    assert tags.count("li") == 6
    assert tags.count("img") == 3
    assert tags.count("a") == 5
    assert all(not name.startswith("on") for _, attributes in parser.tags for name in attributes)
    assert "<script>alert(1)" in parser.text
    assert "a <b>query</b> & \N{REPLACEMENT CHARACTER}" in parser.text
    assert "Nothing found." in parser.text
    # Nothing is fetched from anywhere.
    assert not re.search(r"(src|href)=\"(?!data:|file:)", html)
    images = [
        Image.open(io.BytesIO(base64.b64decode((attributes["src"] or "").partition(",")[2])))
        for tag, attributes in parser.tags
        if tag == "img"
    ]
    assert [image.size for image in images] == [(320, 107), (160, 320), (50, 50)]
    assert images[2].convert("L").getextrema() == (255, 255)


@needs_posix
def test_a_sheet_holds_every_hit(tmp_path: Path) -> None:
    found = hits(tmp_path)
    one = sheet([Answer("a cat", found)])
    two = sheet([Answer("a cat", found), Answer("a dog" * 100, found[:1]), Answer("none", [])])
    assert two.height > one.height
    assert two.width == one.width
    colours = {tuple(pixel) for pixel in np.asarray(one).reshape(-1, 3).tolist()}
    assert {(200, 0, 0)} <= colours


def test_printable() -> None:
    assert printable("/a/naïve 東京.jpg") == "/a/naïve 東京.jpg"
    assert printable("a\nb\x1b[0m\udcff\u202e") == "a�b�[0m��"


def test_an_index_from_elsewhere_shows_only_what_it_has_seen(tmp_path: Path) -> None:
    seen, other = tmp_path / "seen.png", tmp_path / "other.png"
    for number, path in enumerate((seen, other)):
        picture(40, 30, seed=number).save(path)
    known = hashlib.sha256(seen.read_bytes()).hexdigest()
    hits = [
        IndexHit(str(seen), 0.9, None, known),
        IndexHit(str(other), 0.8, None, known),
        IndexHit(str(other), 0.7, {"by": "somebody"}),
    ]
    assert page([Answer("a cat", hits)]).count("data:image/jpeg") == 3
    assert page([Answer("a cat", hits)], anything=False).count("data:image/jpeg") == 1

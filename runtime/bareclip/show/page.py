"""What was found, as a contact sheet or as a page that a browser opens."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..files import file_sha256, printable
from ..images.pixels import thumbnail
from ..index import Duplicate, DuplicateGroup
from ..types import IndexHit
from .sheet import Cell, Section, contact_sheet

_COLUMNS = 5
_THUMBNAIL = 320

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --paper: #fafaf8; --ink: #1c1c1e; --faint: #66666b;
  --card: #fff; --line: #e2e2de; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #161618; --ink: #ececee; --faint: #a0a0a6; --card: #222225; --line: #38383c; }}
}}
body {{ margin: 0 auto; max-width: 88rem; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 1.25rem; font-weight: 600; margin: 1.5rem 0 1rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1rem; font-weight: 600; margin: 1.5rem 0 .5rem; }}
ol {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem;
  list-style: none; margin: 0; padding: 0; }}
li {{ background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  overflow: hidden; }}
a {{ color: inherit; text-decoration: none; display: block; }}
img, .none {{ width: 100%; height: 11rem; object-fit: contain; display: block;
  background: var(--line); }}
.none {{ display: grid; place-items: center; color: var(--faint); }}
p {{ margin: 0; padding: .5rem .75rem; display: flex; gap: .5rem; align-items: baseline; }}
.rank {{ font-weight: 600; }}
.similarity {{ color: var(--faint); margin-left: auto; font-variant-numeric: tabular-nums; }}
.name {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.keep {{ outline: 3px solid #2e7d32; outline-offset: -1px; }}
.facts {{ color: var(--faint); font-size: .875rem; padding-top: 0; }}
.empty {{ color: var(--faint); padding: 0; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Answer:
    """A query, as its user calls it, and what was found."""

    query: str
    hits: Sequence[IndexHit]


def sheet(answers: Sequence[Answer], *, anything: bool = True) -> Image.Image:
    """A contact sheet: a section per query; under a picture its rank, similarity and name.

    Args:
        answers: What was found.
        anything: False shows only files that are what was indexed: an index from elsewhere can
            name any file of this machine, and whoever made it is not to get it in a picture.
    """
    sections = []
    for answer in answers:
        cells = [
            Cell(
                thumbnail_of(hit.item, hit.sha256, anything)
                or Image.new("RGB", (1, 1), (226, 226, 222)),
                (f"{rank}. {printable(Path(hit.item).name)}", f"{hit.similarity:.3f}"),
            )
            for rank, hit in enumerate(answer.hits, start=1)
        ]
        heading = printable(answer.query) + ("" if cells else ": nothing found")
        sections.append(Section(heading, cells))
    return contact_sheet(sections, _COLUMNS)


def page(answers: Sequence[Answer], *, anything: bool = True) -> str:
    """An HTML page with the same, its pictures inside; a picture links to its file."""
    title = ", ".join(printable(answer.query) for answer in answers[:3])
    body = "\n".join(line for answer in answers for line in _section(answer, anything))
    return _PAGE.format(title=html.escape(title), body=body)


def duplicates_page(
    groups: Sequence[DuplicateGroup], heading: str, *, anything: bool = True
) -> str:
    """An HTML page of groups, the photo to keep first in each; ``anything`` as for ``sheet``."""
    body = [f"<h1>{html.escape(printable(heading))}</h1>"]
    for number, group in enumerate(groups, start=1):
        few = f"{len(group.others) + 1} photos; without the others {megabytes(group.saves)} less"
        body += [f"<h2>{number}. {few}</h2>", "<ol>"]
        body.append(_duplicate_card(group.keep, "keep", anything))
        body += [_duplicate_card(o, f"{o.similarity:.3f}", anything) for o in group.others]
        body.append("</ol>")
    return _PAGE.format(title=html.escape(printable(heading)), body="\n".join(body))


def dimensions(photo: Duplicate) -> str:
    """Width and height; a dash where they are not known."""
    return f"{photo.width}x{photo.height}" if photo.width and photo.height else "-"


def megabytes(size: int | None) -> str:
    """Bytes as they are shown; a dash where they are not known."""
    return "-" if size is None else f"{size / 1e6:.2f} MB"


def _duplicate_card(photo: Duplicate, note: str, anything: bool) -> str:
    name = html.escape(printable(Path(photo.item).name))
    full = html.escape(printable(photo.item))
    kept = ' class="keep"' if note == "keep" else ""
    return (
        f"<li{kept}>{_picture(photo.item, photo.sha256, anything)}"
        f'<p><span class="name" title="{full}">{name}</span>'
        f'<span class="similarity">{note}</span></p>'
        f'<p class="facts">{dimensions(photo)}, {megabytes(photo.size)}</p></li>'
    )


def _section(answer: Answer, anything: bool) -> Iterator[str]:
    yield f"<h1>{html.escape(printable(answer.query))}</h1>"
    if not answer.hits:
        yield '<p class="empty">Nothing found.</p>'
    yield "<ol>"
    for rank, hit in enumerate(answer.hits, start=1):
        yield _card(rank, hit, anything)
    yield "</ol>"


def _card(rank: int, hit: IndexHit, anything: bool) -> str:
    path = Path(hit.item)
    name, full = html.escape(printable(path.name)), html.escape(printable(hit.item))
    return (
        f'<li>{_picture(hit.item, hit.sha256, anything)}<p><span class="rank">{rank}</span>'
        f'<span class="name" title="{full}">{name}</span>'
        f'<span class="similarity">{hit.similarity:.3f}</span></p></li>'
    )


def _picture(item: str, sha256: str | None, anything: bool) -> str:
    """A small picture that links to its file."""
    path = Path(item)
    small = thumbnail_of(item, sha256, anything)
    if small is None:
        picture = '<div class="none">no picture</div>'
    else:
        alt = html.escape(printable(path.name))
        picture = f'<img src="{_data_uri(small)}" alt="{alt}">'
    if path.is_absolute():
        picture = f'<a href="{html.escape(path.as_uri())}">{picture}</a>'
    return picture


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def thumbnail_of(
    item: str, sha256: str | None, anything: bool, side: int = _THUMBNAIL
) -> Image.Image | None:
    """The picture as a viewer shows it; None for what is not, or no longer, a picture's path."""
    try:
        path = Path(item)
        if not anything and (sha256 is None or file_sha256(path) != sha256):
            return None
        return thumbnail(path, side)
    except Exception:  # what decoders raise; a picture may have changed since it was indexed
        return None

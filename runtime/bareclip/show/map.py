"""A map of a collection as a page that a browser opens: places, clusters, thumbnails inside."""

import base64
import io
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps

from ..files import printable
from ..index import MapPoint, Overview
from .page import thumbnail_of

_TEMPLATE = Path(__file__).with_name("map.html")
# All thumbnails together, some 6 MB as JPEG; their sides shrink with their number.
_PIXELS = 16_000_000
_SIDES = (16, 96)
_SHEET = 2048
_QUALITY = 75
_THREADS = 4
_NONE = (226, 226, 222)
# What a page's places are counted in.
_STEPS = 10_000


def map_page(
    overview: Overview,
    title: str,
    *,
    anything: bool = True,
    report: Callable[[int], None] = lambda done: None,
) -> str:
    """An HTML page that needs nothing else: hover, click, zoom.

    Args:
        overview: What is on it.
        title: Of the page.
        anything: As for ``page.sheet``.
        report: Called with how many thumbnails are made.
    """
    points = overview.points
    wanted = math.isqrt(_PIXELS // max(1, len(points)))
    side = max(_SIDES[0], min(_SIDES[1], wanted))
    data = {
        "title": printable(title),
        "total": overview.total,
        "clusters": [printable(name) for name in overview.clusters],
        "x": [round(point.x * _STEPS) for point in points],
        "y": [round(point.y * _STEPS) for point in points],
        "cluster": [point.cluster for point in points],
        "names": [printable(point.item) for point in points],
        "links": [_link(point.item) for point in points],
        "side": side,
        "sheet": _SHEET,
        "sheets": _sheets(points, side, anything, report),
    }
    # Within a script, only this could end it.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", text)


def _link(item: str) -> str:
    path = Path(item)
    return path.as_uri() if path.is_absolute() else ""


def _sheets(
    points: list[MapPoint], side: int, anything: bool, report: Callable[[int], None]
) -> list[str]:
    """Thumbnails in rows on square sheets, as data addresses of JPEGs."""
    across = _SHEET // side

    def small(point: MapPoint) -> Image.Image | None:
        found = thumbnail_of(point.item, point.sha256, anything, 2 * side)
        return None if found is None else ImageOps.fit(found, (side, side))

    sheets: list[str] = []
    with ThreadPoolExecutor(_THREADS, "bareclip-map") as pool:
        for start in range(0, len(points), across**2):
            some = points[start : start + across**2]
            rows = -(-len(some) // across)
            sheet = Image.new("RGB", (_SHEET, rows * side), _NONE)
            for place, image in enumerate(pool.map(small, some)):
                if image is not None:
                    sheet.paste(image, (place % across * side, place // across * side))
                report(start + place + 1)
            file = io.BytesIO()
            sheet.save(file, "JPEG", quality=_QUALITY, optimize=True)
            sheets.append("data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode())
    return sheets

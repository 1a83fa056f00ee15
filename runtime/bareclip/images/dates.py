"""When a photo was taken, as its file says."""

import re
from datetime import datetime

from PIL import Image

_EXIF_IFD, _ORIGINAL, _DIGITIZED = 0x8769, 36867, 36868


def taken(image: Image.Image) -> str | None:
    """When it was taken, as the camera's clock had it: 2024-06-15T18:30:00; None if unsaid.

    Exif's DateTimeOriginal, or else DateTimeDigitized. Not its DateTime, which editors change.

    Args:
        image: Decoded, or else not all of them say it.
    """
    block = image.info.get("exif")
    if not isinstance(block, bytes):
        return None
    try:
        exif = Image.Exif()
        exif.load(block)
        found = exif.get_ifd(_EXIF_IFD)
    except Exception:  # whatever Pillow raises on odd blocks; the pixels may be good
        return None
    dates = (_date(found.get(tag)) for tag in (_ORIGINAL, _DIGITIZED))
    return next((date for date in dates if date), None)


def _date(text: object) -> str | None:
    parts = re.match(r"(\d{4})\D(\d\d)\D(\d\d) (\d\d):(\d\d):(\d\d)", str(text))
    if parts is None:
        return None
    try:
        return datetime(*map(int, parts.groups())).isoformat()  # type: ignore[arg-type]
    except ValueError:  # zeros, where a camera had no clock
        return None

"""Colour profiles: from what a file's numbers mean to sRGB, as viewers show them."""

import io
import logging
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageCms, features

_log = logging.getLogger("bareclip")

# A press's profiles have up to 3 MB; what is larger is not read.
_MOST_BYTES = 4 * 1024 * 1024
# ICC.1:2022, 7.2: where a profile's header names its class and its colour space.
_CLASS, _SPACE = slice(12, 16), slice(16, 20)
_CLASSES = {b"mntr", b"scnr", b"prtr", b"spac"}
_SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
# Levels by which a profile may differ from sRGB, at most and in the mean, and be one: curves and
# primaries are rounded, by 5 in the darkest colours. A gamma of 2.2 differs by 7.
_SAME, _SAME_MEAN = 5, 1.0

# lcms2.h's cmsFLAGS_NOCACHE: a colour remembered between calls is one that threads would share.
_NO_CACHE = 0x0040

Transform = ImageCms.ImageCmsTransform


def to_srgb(profile: object, mode: str) -> Transform | None:
    """What turns pixels of a profile into sRGB; thread-safe, and made once for each profile.

    Perceptual, which is what browsers use unless a profile or its user says otherwise, and what
    profiles that have one table only are used with anyway.

    Args:
        profile: The file's, if it has one.
        mode: Of the pixels: ``"RGB"``, ``"L"`` or ``"CMYK"``.

    Returns:
        None where the numbers are sRGB's already, or the profile is of no use: broken, too
        large, or of another colour space. It costs the profile then, not the picture.
    """
    if not isinstance(profile, bytes) or not 128 <= len(profile) <= _MOST_BYTES:
        return None
    if profile[_CLASS] not in _CLASSES or _SPACES.get(profile[_SPACE]) != mode:
        return None
    return _transform(profile, mode) if _can_convert() else None


@cache
def _can_convert() -> bool:
    found = bool(features.check("littlecms2"))
    if not found:
        _log.warning("this Pillow was built without LittleCMS: colour profiles are ignored")
    return found


# A phone's photos all have the same profile, whose tables take milliseconds to make.
@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Transform | None:
    try:
        made = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.PERCEPTUAL,
            _NO_CACHE,  # type: ignore[arg-type]
        )
        colours = _samples(mode)
        shown = made.apply(colours)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "CMYK":
        return made
    difference = np.abs(np.asarray(shown).astype(int) - np.asarray(colours.convert("RGB")))
    return None if difference.max() <= _SAME and difference.mean() <= _SAME_MEAN else made


def _samples(mode: str) -> Image.Image:
    """Colours all over a space, by which sRGB is known under whatever name."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    return Image.fromarray(np.concatenate([grid, greys], 1)).convert(mode)

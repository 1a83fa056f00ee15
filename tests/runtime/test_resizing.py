"""Resized pixels are those of Pillow 12, bit for bit, whichever Pillow is installed."""

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bareclip.images.pixels import read_pixels
from tests.goldens.make_pixels import INTERPOLATIONS, PIXELS, TALL, TARGET, photo
from tests.runtime.test_preprocess import RECIPE
from tests.variants import SHAPES, picture


def recipe(interpolation: Any, kind: Any) -> Any:
    return dataclasses.replace(
        RECIPE, size=TARGET, resize_to=TARGET, resize=kind, interpolation=interpolation
    )


@pytest.mark.parametrize("kind", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_pixels_do_not_depend_on_pillows_order_of_resizing(interpolation: str, kind: str) -> None:
    with np.load(PIXELS) as goldens:
        for shape in [*SHAPES, *TALL]:
            wanted = goldens[f"{interpolation}.{kind}.{shape[0]}x{shape[1]}"]
            for reading in ("as_seen", "as_stored"):
                found = read_pixels(picture(*shape), recipe(interpolation, kind), reading)
                np.testing.assert_array_equal(found, wanted, str(shape))
        for shape in ((40, 90), (57, 41), (33, 101)):
            wanted = goldens[f"{interpolation}.{kind}.draft.{shape[0]}x{shape[1]}"]
            found = read_pixels(photo(*shape), recipe(interpolation, kind), "as_seen", scaled=True)
            np.testing.assert_array_equal(found, wanted, str(shape))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_resized_in_strips_is_the_one_resized_whole(
    orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for mode in ("RGB", "RGBA", "L", "P"):
        file = io.BytesIO()
        picture(83, 131).convert(mode).save(file, "PNG", exif=exif)
        whole = read_pixels(file.getvalue(), recipe("bicubic", "squash"), "as_seen")
        with monkeypatch.context() as patch:
            patch.setattr("bareclip.images.pixels._STRIP_PIXELS", 1000)
            strips = read_pixels(file.getvalue(), recipe("bicubic", "squash"), "as_seen")
        np.testing.assert_array_equal(strips, whole)

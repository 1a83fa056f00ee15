"""One picture's bytes to the model's pixels, within the service's own limits."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..bundle import ImageRecipe
from ..errors import ImageError
from ..images.limits import TooManyPixelsError
from ..images.opening import open_bytes
from ..images.pixels import Reading, opened_pixels
from .problems import PictureProblem
from .settings import Limits


class Reader:
    """Reads pictures; may be used by many threads at once.

    How many pixels all threads may hold is the images' own budget.
    """

    def __init__(self, recipe: ImageRecipe, formats: tuple[str, ...], limits: Limits) -> None:
        Image.init()
        # This Pillow may have been built without some of them.
        self._formats = tuple(name for name in formats if name in Image.OPEN)
        self._recipe, self._limits = recipe, limits

    def pixels(self, data: bytes, reading: Reading) -> NDArray[np.uint8]:
        """What the model is shown of a picture.

        Args:
            data: The bytes of a file.
            reading: See ``bareclip.load``.

        Returns:
            (size, size, 3) uint8, RGB.

        Raises:
            PictureProblem: It cannot be used.
        """
        most = self._limits.pixels
        try:
            picture = open_bytes(data, most)
            if picture.image.format not in self._formats:
                raise UnidentifiedImageError
            # As the photo index reads large photos.
            whole = picture.image.width * picture.image.height
            scaled = whole > self._limits.exact_pixels
            return opened_pixels(picture, self._recipe, reading, scaled, max_pixels=most)
        except (PictureProblem, MemoryError):
            raise
        except UnidentifiedImageError:
            names = ", ".join(self._formats)
            raise PictureProblem(
                f"it is in no format that is read here ({names}), or its beginning is damaged"
            ) from None
        except TooManyPixelsError:
            raise PictureProblem(
                f"it has more pixels than the {most // 1_000_000} million that are decoded here, "
                "or than its format's part of them; send it smaller",
                "too_large",
            ) from None
        except ImageError as error:
            too_long = "resized for this model" in str(error)
            raise PictureProblem(
                "it is too long for its width; crop it first" if too_long else str(error),
                "too_large" if too_long else "invalid_image",
            ) from None
        except Exception:  # decoders raise nearly anything on hostile files
            raise PictureProblem("it is damaged or cut short") from None

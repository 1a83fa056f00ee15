"""Photos and captions of the user's, to calibrate with and to judge on."""

from dataclasses import dataclass, field
from pathlib import Path

from bareclip.bundle import Bundle
from bareclip.files import read_lines
from bareclip.images.folders import image_files
from bareclip.measure.captions import merge, read_pairs
from bareclip.measure.fidelity import Corpus, make_corpus

from ..errors import PrecisionError

_FEWEST = 8
# Photos that a precision is judged on.
_JUDGED = 1000


@dataclass(frozen=True)
class Data:
    """What a user gives to calibrate with, and to judge on: halves of it, never both.

    Attributes:
        photos: With their captions, if any.
        texts: Captions of no photo.
    """

    photos: list[tuple[Path, list[str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, photos: Path | None, captions: Path | None) -> "Data":
        """Reads what the command line names.

        Args:
            photos: A folder of images.
            captions: A text per line, or a ``.jsonl`` file of images with captions.

        Raises:
            BareclipError: They cannot be read, or are too few.
        """
        pairs: list[tuple[Path, list[str]]] = []
        texts: list[str] = []
        if captions is not None and captions.suffix == ".jsonl":
            pairs = read_pairs(captions)
        elif captions is not None:
            texts = read_lines(captions)
        if photos is not None:
            pairs += [(path, []) for path in image_files(photos)]
        # A photo is in one half alone, however many lines name it.
        pairs, texts = merge(pairs), list(dict.fromkeys(texts))
        for what, given, found in (
            ("photos", photos or (captions if pairs else None), len(pairs)),
            ("captions", captions, len(texts) + sum(len(several) for _, several in pairs)),
        ):
            if given is not None and found < _FEWEST:
                raise PrecisionError(
                    f"{given} holds {found} {what}; calibration wants at least {_FEWEST}, "
                    "half of them to judge by, and does well with a few hundred"
                )
        return cls(pairs, texts)

    def half(self, which: int) -> "Data":
        """Every other one, from the first (0) or the second (1)."""
        return Data(self.photos[which::2], self.texts[which::2])

    def first(self, count: int) -> "Data":
        """At most ``count`` photos, and four texts for each."""
        photos = [(path, several[:4]) for path, several in self.photos[:count]]
        return Data(photos, self.texts[: 4 * count])

    def corpus(self, bundle: Bundle) -> Corpus:
        return make_corpus(bundle, self.photos, self.texts)

    def judging(self, bundle: Bundle) -> Corpus:
        """The half that nothing is calibrated on."""
        return self.half(0).first(_JUDGED).corpus(bundle)

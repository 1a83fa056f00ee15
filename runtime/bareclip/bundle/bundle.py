"""The bundle: one folder that holds a converted model and every constant it needs.

``bundle.json`` is read strictly: what this version does not know, it refuses by name.
This module knows files and JSON; it loads no model.
"""

import dataclasses
import json
import os
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ..errors import BundleError
from ..files import read_file
from .fetched import Fetched
from .format import (
    MANIFEST,
    Fidelity,
    FileRecord,
    ImageRecipe,
    ResizeFiles,
    Scoring,
    Source,
    TextRecipe,
    TowerFiles,
    Whole,
    file_record,
)
from .hub import fetch
from .strict_json import from_json

FORMAT_VERSION = 1
TOKENIZER = "tokenizer.json"
TOWERS = ("vision", "text")
# A manifest has a few thousand; one from elsewhere may have anything.
MOST_MANIFEST_BYTES = 16 * 1024**2
# The model that ships with the package.
DEMO = Path(__file__).parents[1] / "demo"

T = TypeVar("T")

# Of a picture as the model takes it: twice that of the largest there are. Sixteen wait decoded.
_MOST_SIDE = 2048


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk, as its manifest describes it.

    Attributes:
        image: None where it has no vision tower.
        text, tokenizer: None where it has no text tower.
        precisions: precision ("fp32") -> tower ("vision", "text") -> files.
        fidelity: precision, other than fp32 -> what was measured when it was made.
        whole: Graphs of whole pictures; None where they were not made.
        static_batch: How many inputs its graphs take, always; None for any number.
        folder: Where it lies; not part of the manifest.
    """

    format_version: int
    name: str
    source: Source
    embedding_dim: int
    scoring: Scoring
    image: ImageRecipe | None
    text: TextRecipe | None
    tokenizer: FileRecord | None
    precisions: dict[str, dict[str, TowerFiles]]
    fidelity: dict[str, Fidelity]
    whole: Whole | None = None
    static_batch: int | None = None
    folder: Path = field(default=Path(), compare=False, metadata={"in_manifest": False})

    @classmethod
    def read(cls, folder: Path, *, whole: bool = True) -> "Bundle":
        """Reads and checks a bundle's manifest, and that its files are there, whole.

        Checksums are not computed here, since that reads every byte: see ``damage``.

        Args:
            folder: Where it lies. What one from the Hub lacks is fetched.
            whole: False leaves the files to ``require``, for who wants some of them.

        Raises:
            BundleError: No bundle there, a newer format, an unknown or ill-typed field,
                or a file missing or of the wrong size.
        """
        manifest = folder / MANIFEST
        try:
            data = json.loads(read_file(manifest, MOST_MANIFEST_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            raise BundleError(
                f"{folder} is not a bundle: it has no {MANIFEST}; "
                "make one with: bareclip export CHECKPOINT -o FOLDER"
            ) from None
        except PermissionError as error:
            raise BundleError(
                f"cannot read {manifest}: {error.strerror}; let this user read the folder: "
                "chmod -R a+rX"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(
                f"cannot read {manifest}: {error}; export the bundle again"
            ) from error
        version = data.get("format_version") if isinstance(data, dict) else None
        if version != FORMAT_VERSION:
            raise BundleError(
                f"{manifest} has format version {version!r}; this bareclip reads "
                f"{FORMAT_VERSION}: update bareclip, or export the bundle again"
            )
        bundle: Bundle = from_json(cls, data, str(manifest))
        bundle = dataclasses.replace(bundle, folder=folder)
        bundle._check_values()
        bundle._check_names()
        bundle._warn_of_old_texts()
        if whole:
            bundle._check_files(bundle.files())
        return bundle

    def write(self) -> None:
        """Writes the manifest into ``folder``, in one move."""
        data = dataclasses.asdict(self)
        del data["folder"]
        # A reader that does not know these reads bundles that do not have them.
        for name in ("whole", "static_batch"):
            if data[name] is None:
                del data[name]
        partial = self.folder / f".{MANIFEST}.{secrets.token_hex(4)}.partial"
        try:
            partial.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            partial.replace(self.folder / MANIFEST)
        finally:
            partial.unlink(missing_ok=True)

    @property
    def towers(self) -> tuple[str, ...]:
        """Those it has, of ``TOWERS``."""
        recipes = (self.image, self.text)
        return tuple(name for name, has in zip(TOWERS, recipes, strict=True) if has is not None)

    def image_recipe(self) -> ImageRecipe:
        """How images are read.

        Raises:
            BundleError: It has no vision tower.
        """
        if self.image is None:
            raise BundleError(
                f"{self.folder} has a text tower only, so it embeds no images; use a bundle of "
                "the whole model, or of its vision tower"
            )
        return self.image

    def text_recipe(self) -> TextRecipe:
        """How texts are read.

        Raises:
            BundleError: It has no text tower.
        """
        if self.text is None:
            raise BundleError(
                f"{self.folder} has a vision tower only, so it embeds no texts; use a bundle of "
                "the whole model, or of its text tower"
            )
        return self.text

    def tower(self, precision: str, tower: str) -> TowerFiles:
        """The files of a tower at a precision.

        Raises:
            BundleError: The bundle does not have that precision or tower.
        """
        if precision not in self.precisions:
            raise BundleError(
                f"{self.folder} has no precision {precision!r}; it has {', '.join(self.precisions)}"
            )
        towers = self.precisions[precision]
        if tower not in towers:
            raise BundleError(f"{self.folder} has no {tower} tower at {precision}")
        return towers[tower]

    def require(self, precision: str, tower: str) -> None:
        """Makes sure of a tower's files; what a bundle from the Hub lacks is fetched.

        Raises:
            BundleError: The bundle does not have that precision or tower, or a file is
                missing, of the wrong size, or cannot be fetched.
        """
        files = self.tower(precision, tower).files
        if tower == "text" and self.tokenizer is not None:
            files = {TOKENIZER: self.tokenizer, **files}
        self._check_files(files)

    def files(self) -> dict[str, FileRecord]:
        """Every file of the bundle but the manifest, by its name within the folder."""
        found = {} if self.tokenizer is None else {TOKENIZER: self.tokenizer}
        for towers in self.precisions.values():
            for tower in towers.values():
                found |= tower.files
        for graph in self.whole_graphs():
            found |= graph.files
        return found

    def whole_graphs(self) -> list[TowerFiles | ResizeFiles]:
        """Those that it has, that which resizes first."""
        return [] if self.whole is None else [self.whole.resize, *self.whole.towers.values()]

    def without(self, precision: str) -> "Bundle":
        """The manifest without a precision, and without what stands on its files."""

        def others(given: Mapping[str, T]) -> dict[str, T]:
            return {name: value for name, value in given.items() if name != precision}

        whole = self.whole
        if whole is not None:
            whole = dataclasses.replace(whole, towers=others(whole.towers))
        return dataclasses.replace(
            self,
            precisions=others(self.precisions),
            fidelity=others(self.fidelity),
            whole=whole,
        )

    def size(self, precision: str, tower: str) -> int:
        """Bytes of a tower's files."""
        return sum(record.size for record in self.tower(precision, tower).files.values())

    def damage(self) -> list[str]:
        """Names of files whose SHA-256 is not the recorded one; reads every byte."""
        return [
            name
            for name, record in self.files().items()
            if file_record(self.folder / name) != record
        ]

    def _check_values(self) -> None:
        """Refuses numbers that would only fail, or mislead, when the model is asked."""
        image, text, scoring = self.image, self.text, self.scoring
        rules = {
            "a logit_scale up to 50, the logarithm of a factor": scoring.logit_scale <= 50,
            "an embedding_dim of at least 1": self.embedding_dim >= 1,
            "a tower": bool(self.towers),
            "a tokenizer with its text recipe, or neither": (text is None)
            == (self.tokenizer is None),
            "recipes for the towers that it has": all(
                set(towers) <= set(self.towers) for towers in self.precisions.values()
            ),
            f"an image size of at least 1, and a resize_to no smaller, up to {_MOST_SIDE}": (
                image is None or 1 <= image.size <= image.resize_to <= _MOST_SIDE
            ),
            "a context_length from 2 to a million": (
                text is None or 2 <= text.context_length <= 10**6
            ),
            "a static_batch from 1 to a thousand, with texts of a fixed_length": (
                self.static_batch is None
                or (1 <= self.static_batch <= 1000 and (text is None or text.fixed_length))
            ),
            "a pad_id and an end_id of at least 0": (
                text is None or min(text.pad_id, text.end_id) >= 0
            ),
            "graphs that are among their files": all(
                tower.graph in tower.files
                for tower in (
                    *(each for towers in self.precisions.values() for each in towers.values()),
                    *self.whole_graphs(),
                )
            ),
            "a vision tower at every precision that it has whole graphs of": self.whole is None
            or all(
                "vision" in self.precisions.get(precision, {}) for precision in self.whole.towers
            ),
        }
        for rule, kept in rules.items():
            if not kept:
                raise BundleError(f"{self.folder / MANIFEST} lacks {rule}; export the bundle again")

    def _warn_of_old_texts(self) -> None:
        """Says so where texts are tokenized as 0.1 did it: see docs/models.md."""
        source, text = self.source, self.text
        siglip = source.architecture in ("SiglipModel", "ready-made siglip")
        open_clip = source.architecture.startswith("open_clip")
        if (
            text is not None
            and source.exporter.startswith("bareclip 0.1.0")
            and (siglip or (open_clip and not text.fixed_length))
        ):
            warnings.warn(
                f"{self.folder} was exported by bareclip 0.1.0, which read some texts otherwise "
                "than the model does (docs/models.md says which): export it again",
                stacklevel=3,
            )

    def _check_names(self) -> None:
        for name in self.files():
            # A manifest from elsewhere must not reach outside its folder. Links may: the Hub's
            # cache is made of them.
            place = Path(os.path.normpath(name))
            if "\0" in name or place.anchor or place.parts[:1] == ("..",):
                raise BundleError(f"{self.folder / MANIFEST} names {name!r}, outside the bundle")

    def _check_files(self, files: Mapping[str, FileRecord]) -> None:
        fetched = Fetched.at(self.folder)
        if fetched is not None:
            fetch(fetched, files)
        for name, record in files.items():
            path = self.folder / name
            size = path.stat().st_size if path.is_file() else None
            if size != record.size:
                found = "missing" if size is None else f"{size} bytes"
                raise BundleError(
                    f"{path} is {found}, where the bundle wants {record.size} bytes; "
                    "export or copy the bundle again"
                )

"""Which model and recipe made a store's vectors; others' cannot be compared with them."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from ..bundle import Bundle, FileRecord
from ..clip import Clip
from ..errors import StoreError
from ..images.pixels import Reading

Decoding = Literal["scaled", "exact"]


@dataclass(frozen=True)
class Fingerprint:
    """What vectors depend on.

    Attributes:
        model: The bundle's name.
        width: Of a vector.
        precision: Of the vision tower.
        reading: How pictures are read; see ``bareclip.load``.
        decoding: ``"scaled"`` decodes large JPEGs small; see ``preprocess.shrink``.
        vision: Checksum of the vision tower's files.
        text: Checksum of the tokenizer and the text tower's files, at fp32 where the bundle
            has it: texts may be asked at another precision than fp32, but of no other model.
        image_recipe: Checksum of the bundle's image recipe.
    """

    model: str
    width: int
    precision: str
    reading: Reading
    decoding: Decoding
    vision: str
    text: str
    image_recipe: str

    @classmethod
    def of(cls, clip: Clip, decoding: Decoding) -> "Fingerprint":
        """The fingerprint of what ``clip`` makes."""
        bundle, precision = clip.bundle, clip.precision["vision"]
        # Texts of any precision meet the same images; fp32's files name the tower best.
        text = "fp32" if "fp32" in bundle.precisions else clip.precision.get("text", "fp32")
        return cls(
            model=bundle.name,
            width=bundle.embedding_dim,
            precision=precision,
            reading=clip.reading,
            decoding=decoding,
            vision=_digest(_files(bundle, precision, "vision")),
            text=_digest([bundle.tokenizer, _files(bundle, text, "text")]),
            image_recipe=_digest(bundle.image_recipe()),
        )

    def check_texts(self, other: "Fingerprint", where: str) -> None:
        """As ``check``, of all but the precision of images: texts of any meet the same ones.

        Raises:
            StoreError: They differ otherwise.
        """
        if other.precision != self.precision:
            other = replace(other, precision=self.precision, vision=self.vision)
        self.check(other, where)

    def check(self, other: "Fingerprint", where: str) -> None:
        """Refuses ``other``, a model's, where ``self`` is the fingerprint of ``where``.

        Raises:
            StoreError: They differ; names the first difference.
        """
        for field in fields(self):
            mine, given = getattr(self, field.name), getattr(other, field.name)
            if mine == given:
                continue
            if field.name in ("vision", "text", "image_recipe"):
                what = f"another {field.name.replace('_', ' ')}, though of the same name"
            else:
                what = f"{field.name} {given!r} where it has {mine!r}"
            raise StoreError(
                f"{where} was made with {self.model} ({self.precision}, {self.reading}, "
                f"{self.decoding} decoding); what was given has {what}: "
                "give the same model, or make a new index"
            )


def _files(bundle: Bundle, precision: str, tower: str) -> dict[str, FileRecord]:
    """Of a tower, none where the bundle has it not."""
    return bundle.tower(precision, tower).files if tower in bundle.towers else {}


def _digest(data: object) -> str:
    # Recipes and file records are dataclasses: asdict where json meets one.
    text = json.dumps(data, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()

"""Which model and recipe made vectors; others' cannot be compared with them."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Protocol, get_args

from ..bundle import Bundle
from ..errors import StoreError, short
from ..images.pixels import READING_VERSION, Reading
from ..inference.device import stored

# Of an index that does not say: made before the rules had numbers.
_FIRST_READING_VERSION = 1
_WIDEST = 1 << 16

Decoding = Literal["scaled", "exact"]


class Model(Protocol):
    """What a ``Clip`` says of itself."""

    bundle: Bundle

    @property
    def precision(self) -> dict[str, str]: ...
    @property
    def reading(self) -> Reading: ...


@dataclass(frozen=True)
class Fingerprint:
    """What vectors depend on.

    Attributes:
        model: The bundle's name.
        width: Of a vector.
        precision: Of the vision tower.
        reading: How pictures are read; see ``bareclip.load``.
        decoding: ``"scaled"`` decodes large JPEGs small; see ``images/pixels.py``.
        vision: Checksum of the vision tower's files.
        text: Checksum of the tokenizer and the text tower's files, at fp32 where the bundle
            has it: texts may be asked at another precision than fp32, but of no other model.
        image_recipe: Checksum of the bundle's image recipe.
        reading_version: Of the rules that pictures were read by; see ``images/pixels.py``.
    """

    model: str
    width: int
    precision: str
    reading: Reading
    decoding: Decoding
    vision: str
    text: str
    image_recipe: str
    reading_version: int = _FIRST_READING_VERSION

    @classmethod
    def of(cls, clip: Model, decoding: Decoding) -> "Fingerprint":
        """The fingerprint of what ``clip`` makes.

        Raises:
            BundleError: Its bundle has no vision tower.
        """
        bundle = clip.bundle
        recipe = _digest(bundle.image_recipe())
        # Of a Clip that was loaded for texts alone, any will do: it embeds no pictures.
        having = [name for name, towers in bundle.precisions.items() if "vision" in towers]
        precision = clip.precision.get("vision", having[0])
        # Texts of any precision meet the same images; fp32's files name the tower best.
        speaking = [name for name, towers in bundle.precisions.items() if "text" in towers]
        text = clip.precision.get("text", speaking[0] if speaking else "fp32")
        if "fp32" in bundle.precisions:
            text = "fp32"
        return cls(
            model=bundle.name,
            width=bundle.embedding_dim,
            precision=precision,
            reading=clip.reading,
            decoding=decoding,
            vision=_digest(_files(clip, precision, "vision")),
            text=_digest([bundle.tokenizer, _files(clip, text, "text")]),
            image_recipe=recipe,
            reading_version=READING_VERSION,
        )

    @classmethod
    def parse(cls, text: object) -> "Fingerprint":
        """Reads the JSON that an index, or an export of it, has.

        Raises:
            ValueError: It is none.
        """
        try:
            found = json.loads(text)  # type: ignore[arg-type]
        except (TypeError, RecursionError) as error:
            raise ValueError(f"{short(text)}, which is no JSON") from error
        if not isinstance(found, dict):
            raise ValueError(f"{short(text)}, which is no JSON object")
        return cls(**{field.name: _checked(field.name, found) for field in fields(cls)})

    def shares_space(self, other: "Fingerprint") -> bool:
        """Whether vectors of both can be compared: of one model, at any precision.

        How pictures were read and decoded moves vectors a little, and to no other space.
        """
        if (self.width, self.image_recipe) != (other.width, other.image_recipe):
            return False
        if self.precision == other.precision:
            return self.vision == other.vision
        return (self.model, self.text) == (other.model, other.text)

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
            if field.name == "reading_version" and mine < given:
                raise StoreError(
                    f"{where} was made by older rules of reading pictures (orientation, colour "
                    "profiles, tall pictures); index the photos into a new file"
                )
            if field.name in ("vision", "text", "image_recipe"):
                what = f"another {field.name.replace('_', ' ')}, though of the same name"
            else:
                what = f"{field.name} {given!r} where it has {mine!r}"
            raise StoreError(
                f"{where} was made with {self.model} ({self.precision}, {self.reading}, "
                f"{self.decoding} decoding); what was given has {what}: "
                "give the same model, or make a new index"
            )


def _checked(name: str, found: dict[str, Any]) -> Any:
    """A field of a fingerprint that was read."""
    value = found.get(name, _FIRST_READING_VERSION if name == "reading_version" else None)
    if name in ("width", "reading_version"):
        right = type(value) is int and 0 < value <= _WIDEST
    elif name in ("reading", "decoding"):
        right = value in get_args(Reading if name == "reading" else Decoding)
    else:
        right = isinstance(value, str)
    if not right:
        raise ValueError(f"{name} {short(value)}")
    return value


def _files(clip: Model, precision: str, tower: str) -> object:
    """Records of a tower's files, none where the bundle has it not."""
    bundle = clip.bundle
    return bundle.tower(stored(precision), tower).files if tower in bundle.towers else {}


def _digest(data: object) -> str:
    # Recipes and file records are dataclasses: asdict where json meets one.
    text = json.dumps(data, sort_keys=True, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()

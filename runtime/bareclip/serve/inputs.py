"""What requests ask about, in every form that clients send, as texts, bytes and addresses.

A string never becomes a path. Forms of a picture: ``{"image": ...}`` (Jina, whose value may be an
object with ``url`` or ``bytes``), ``{"type": "image_url", "image_url": {"url": ...}}`` (OpenAI,
vLLM, Cohere), ``{"type": "image_base64", "image_base64": ...}`` (Voyage), such parts within
``{"content": [...]}``, a data URI, and any string where ``modality`` is ``"image"`` (infinity).
"""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .problems import Problem, invalid, too_large
from .settings import Limits


@dataclass(frozen=True)
class Text:
    """A text to embed."""

    value: str


@dataclass(frozen=True)
class Picture:
    """A picture's file."""

    data: bytes


@dataclass(frozen=True)
class Address:
    """Where a picture is to be fetched from."""

    url: str


Item: TypeAlias = Text | Picture | Address

_ITEM = 'a string, {"text": ...} or {"image": ...}'


def embedding_items(body: dict[str, Any]) -> list[Item]:
    """What ``/v1/embeddings`` is asked about, in one of the forms named above.

    Raises:
        Problem: It is in none of them.
    """
    modality = body.get("modality", "text")
    if modality not in ("text", "image"):
        raise invalid("modality must be text or image", "modality")
    given = [name for name in ("input", "inputs", "texts", "images", "messages") if name in body]
    # Cohere's request may have both.
    if len(given) != 1 and set(given) != {"texts", "images"}:
        raise invalid("give input, a string or a list of strings or objects", "input")
    found: list[Item] = []
    for name in given:
        value = body[name]
        if name == "messages":
            found += [_message(value)]
            continue
        several = value if isinstance(value, list) else [value]
        is_picture = name == "images" or (name == "input" and modality == "image")
        found += [
            item(one, f"{name}[{place}]" if isinstance(value, list) else name, picture=is_picture)
            for place, one in enumerate(several)
        ]
    if not found:
        raise invalid("input is empty; give at least one text or picture", given[0])
    return found


def items(value: Any, name: str) -> list[Item]:
    """A list of texts and pictures, mixed.

    Raises:
        Problem: It is none, or empty.
    """
    if not isinstance(value, list) or not value:
        raise invalid(f"{name} must be a list of at least one of: {_ITEM}", name)
    return [item(one, f"{name}[{place}]") for place, one in enumerate(value)]


def item(value: Any, name: str, *, picture: bool = False) -> Item:
    """One text or picture.

    Args:
        value: As it came.
        name: Where, for messages.
        picture: Whether a plain string is a picture.

    Raises:
        Problem: It is in no form that is known.
    """
    if isinstance(value, str):
        # A data URI where a text could be is a picture: nobody wants its letters embedded.
        if picture or value.startswith("data:image/"):
            return _picture(value, name)
        return Text(value)
    if isinstance(value, dict):
        if isinstance(value.get("content"), list):
            return _only(value["content"], name)
        return _part(value, name)
    if isinstance(value, (int, list)):
        raise invalid(f"{name} is tokens; send text, which this model's own tokenizer reads", name)
    raise invalid(f"{name} must be {_ITEM}", name)


def check_counts(found: Sequence[Item], limits: Limits) -> None:
    """Holds a request to the limits.

    Raises:
        Problem: It asks about more than one request may.
    """
    texts = [one for one in found if isinstance(one, Text)]
    pictures = len(found) - len(texts)
    if pictures > limits.pictures:
        raise too_large(f"{pictures} pictures are given; {limits.pictures} are the most", "input")
    if len(texts) > limits.texts:
        raise too_large(f"{len(texts)} texts are given; {limits.texts} are the most", "input")
    for text in texts:
        if len(text.value) > limits.characters:
            raise too_large(
                f"a text has {len(text.value)} characters; {limits.characters} are the most",
                "input",
            )


def _message(value: Any) -> Item:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
        raise invalid("messages must hold one message, which gives one vector", "messages")
    content, name = value[0].get("content"), "messages[0].content"
    return _only(content, name) if isinstance(content, list) else item(content, name)


def _only(parts: list[Any], name: str) -> Item:
    if len(parts) != 1:
        raise invalid(
            f"{name} has {len(parts)} parts; a text and a picture have a vector each here: "
            "give one part per input",
            name,
        )
    if isinstance(parts[0], str):
        return Text(parts[0])
    if not isinstance(parts[0], dict):
        raise invalid(f"{name} must be {_ITEM}", name)
    return _part(parts[0], name)


def _part(value: dict[str, Any], name: str) -> Item:
    kinds = [kind for kind in ("text", "image", "image_url", "image_base64") if kind in value]
    if len(kinds) != 1 or (
        "type" in value and value["type"] not in (*kinds, "image", "input_text")
    ):
        raise invalid(f"{name} must be {_ITEM}", name)
    inner = value[kinds[0]]
    if isinstance(inner, dict):
        names = [key for key in ("url", "bytes", "base64", "data") if key in inner]
        inner = inner[names[0]] if len(names) == 1 else None
    if not isinstance(inner, str):
        raise invalid(f"{name} must be {_ITEM}, with a string inside", name)
    return Text(inner) if kinds[0] == "text" else _picture(inner, name)


def _picture(value: str, name: str) -> Item:
    """A picture in a string: a data URI, an address, or base64."""
    start = value[:16].lower()
    if start.startswith(("http://", "https://")):
        return Address(value)
    if start.startswith("data:"):
        head, comma, value = value.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise invalid(f"{name} is a data URI without ;base64", name)
    data = _decoded(value)
    if not data:
        raise Problem(
            400, f"{name} is no base64 of a picture's file", code="invalid_image", param=name
        )
    return Picture(data)


def _decoded(value: str) -> bytes:
    """Bytes of base64; of the alphabet of addresses, folded or unpadded as well. Empty if none."""
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        pass
    try:
        plain = "".join(value.split()).replace("-", "+").replace("_", "/").rstrip("=")
        return binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError:
        return b""

"""Prompt templates: the sentences a label is put into, ``{}`` marking its place."""

import os
from collections.abc import Iterable
from pathlib import Path

from .errors import TextError


def _imagenet() -> tuple[str, ...]:
    """OpenAI's 80 for ImageNet, from their parts (openai/CLIP, notebooks, MIT)."""
    photos = (
        "bad", "low resolution", "cropped", "bright", "dark", "close-up", "black and white",
        "pixelated", "jpeg corrupted", "blurry", "good",
    )  # fmt: skip
    things = ("hard to see", "clean", "dirty", "cool", "large", "nice", "weird", "small")
    media = (
        "a photo", "a sculpture", "a rendering", "a rendition", "graffiti", "a tattoo",
        "a drawing", "a painting", "a doodle", "a sketch", "art", "itap",
    )  # fmt: skip
    materials = ("embroidered", "plastic", "origami", "toy", "cartoon", "plushie")
    templates = [f"{start} {{}}." for start in (
        "a photo of many", "a photo of my", "a photo of one", "itap of my",
    )]  # fmt: skip
    for article in ("a", "the"):
        templates += [f"a {photo} photo of {article} {{}}." for photo in photos]
        templates += [f"a photo of {article} {thing} {{}}." for thing in things]
        templates += [f"{medium} of {article} {{}}." for medium in media]
        templates += [f"{article} {material} {{}}." for material in materials]
        templates += [f"{article} {{}} in a video game."]
    return tuple(sorted(templates))


PLAIN = ("a photo of a {}",)
FIVE = (
    "a photo of a {}",
    "a picture of a {}",
    "a {} in the wild",
    "a {} in nature",
    "an image of a {}",
)
TEMPLATES = {"plain": PLAIN, "five": FIVE, "imagenet": _imagenet()}


def resolve(templates: str | Iterable[str]) -> tuple[str, ...]:
    """Turns what a caller may give into templates.

    Args:
        templates: The name of a set (``"plain"``, ``"five"``, ``"imagenet"``), one
            template, or several.

    Returns:
        At least one template, each with exactly one ``{}``.

    Raises:
        TextError: An unknown name, no template, or one without exactly one ``{}``.
    """
    if isinstance(templates, str):
        if "{}" not in templates and templates not in TEMPLATES:
            raise TextError(
                f"no templates named {templates!r}; "
                f"the sets are {', '.join(TEMPLATES)}, or give your own such as 'a photo of a {{}}'"
            )
        templates = TEMPLATES.get(templates, (templates,))
    resolved = tuple(templates)
    if not resolved:
        raise TextError("no templates given; give at least one, such as 'a photo of a {}'")
    for template in resolved:
        if template.count("{}") != 1:
            raise TextError(
                f"template {template!r} must contain {{}} exactly once, where the label goes"
            )
    return resolved


def from_argument(argument: str) -> tuple[str, ...]:
    """Templates named on a command line: a set, one template, or a file of them.

    Raises:
        TextError: As for ``resolve``, or the file cannot be read.
    """
    # Not Path.is_file(), which raises where an argument is too long to be a name.
    if os.path.isfile(argument):  # noqa: PTH113
        return resolve(read_lines(Path(argument)))
    return resolve(argument)


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, stripped; empty ones do not count.

    Raises:
        TextError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"cannot read {path}: {error}; it must be UTF-8 text") from error
    return [line.strip() for line in lines if line.strip()]

"""Prompt templates: the sentences a label is put into, ``{}`` marking its place, or functions."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from ..errors import TextError, short


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


# A sentence with ``{}`` in it, or a function from a label to a prompt.
Template: TypeAlias = str | Callable[[str], str]

PLAIN = ("a photo of a {}",)
FIVE = (
    "a photo of a {}",
    "a picture of a {}",
    "a {} in the wild",
    "a {} in nature",
    "an image of a {}",
)
TEMPLATES = {"plain": PLAIN, "five": FIVE, "imagenet": _imagenet()}


def resolve(templates: str | Template | Iterable[Template]) -> tuple[Template, ...]:
    """Turns what a caller may give into templates.

    Args:
        templates: The name of a set (``"plain"``, ``"five"``, ``"imagenet"``), one
            template, or several; a template is a string, or a function (a label) -> a prompt,
            as open_clip's are.

    Returns:
        At least one template, each string with exactly one ``{}``.

    Raises:
        TextError: An unknown name, no template, or one without exactly one ``{}``.
    """
    if callable(templates):
        return (templates,)
    if isinstance(templates, str):
        if "{}" not in templates and templates not in TEMPLATES:
            raise TextError(
                f"no templates named {templates!r}; "
                f"the sets are {', '.join(TEMPLATES)}, or give your own such as 'a photo of a {{}}'"
            )
        templates = TEMPLATES.get(templates, (templates,))
    resolved: tuple[Template, ...] = tuple(templates)
    if not resolved:
        raise TextError("no templates given; give at least one, such as 'a photo of a {}'")
    for template in resolved:
        if callable(template):
            continue
        if not isinstance(template, str) or template.count("{}") != 1:
            raise TextError(
                f"template {short(template)} must contain {{}} exactly once, where the label goes"
            )
    return resolved


def fill(template: Template, label: str) -> str:
    """The prompt that a template makes of a label.

    Raises:
        TextError: A function gave something else than a string.
    """
    prompt = template(label) if callable(template) else template.replace("{}", label)
    if not isinstance(prompt, str):
        raise TextError(
            f"a template gave {short(prompt)} for label {short(label)}; it must give a string"
        )
    return prompt

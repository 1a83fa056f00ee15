"""bareclip similarity: how alike an image and texts are."""

import json

import click

from ..errors import ImageError
from .options import ModelOptions, bundle_option, json_option, with_model
from .output import print_table
from .sources import expand


@click.command()
@click.argument("image")
@click.argument("texts", nargs=-1, required=True)
@json_option
@bundle_option
@with_model
def similarity(model: ModelOptions, image: str, texts: tuple[str, ...], as_json: bool) -> None:
    """Cosine similarity of IMAGE, a file or an http(s) address, with each of TEXTS.

    \b
    bareclip similarity photo.jpg "a happy golden retriever" --bundle clip-b32
    """
    source, *others = expand([image])
    if others:
        raise ImageError(f"{image} is a folder of {len(others) + 1} images; give one of them")
    clip = model.load()
    vector = clip.embed_images([source.image])
    cosines = clip.similarity(vector, clip.embed_texts(texts))[0]
    pairs = [(text, float(cosine)) for text, cosine in zip(texts, cosines, strict=True)]
    if as_json:
        found = [{"image": image, "text": text, "similarity": cosine} for text, cosine in pairs]
        click.echo(json.dumps(found, indent=2))
    else:
        print_table(["text", "similarity"], [[text, f"{cosine:.4f}"] for text, cosine in pairs])

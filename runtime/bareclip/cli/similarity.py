"""bareclip similarity: how alike images and texts are."""

import click

from .options import ModelOptions, bundle_option, exclude_option, json_option, with_model
from .output import print_table, say_json
from .sources import check_all_read, embed_sources, expand
from .standard_input import check_once, with_lines


@click.command()
@click.argument("image")
@click.argument("texts", nargs=-1, required=True)
@exclude_option
@json_option
@bundle_option
@with_model
def similarity(
    model: ModelOptions, image: str, texts: tuple[str, ...], exclude: tuple[str, ...], as_json: bool
) -> None:
    """Cosine similarity of IMAGE with each of TEXTS.

    IMAGE is a file, an http(s) address, or a folder of images, each of which is compared. One
    argument may be -: a picture, or texts, one per line, on standard input.

    \b
    bareclip similarity photo.jpg "a happy golden retriever" --bundle clip-b32
    bareclip similarity photos/ "a cat" "a dog" --json --bundle clip-b32
    """
    check_once([image, *texts])
    wanted = with_lines(texts)
    sources = expand([image], exclude)
    clip = model.load()
    clip.preload()  # both towers at once
    embedded = embed_sources(clip, sources)
    cosines = clip.similarity(embedded.vectors, clip.embed_texts(wanted))
    rows = [
        (sources[place].name, text, float(cosine))
        for place, row in zip(embedded.kept, cosines, strict=True)
        for text, cosine in zip(wanted, row, strict=True)
    ]
    if as_json:
        say_json([{"image": name, "text": text, "similarity": value} for name, text, value in rows])
    elif len(sources) == 1:
        print_table(["text", "similarity"], [[text, f"{value:.4f}"] for _, text, value in rows])
    else:
        header = ["image", "text", "similarity"]
        print_table(header, [[name, text, f"{value:.4f}"] for name, text, value in rows])
    check_all_read(embedded.failures, len(sources))

"""bareclip pair: one bundle of the images of one and the texts of another."""

from pathlib import Path

import click

from .. import Bundle
from ..bundle import pair as bundles
from ..bundle.locate import find_bundle
from .output import note, say


@click.command()
@click.argument("images")
@click.argument("texts")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The bundle to write."
)
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there already.")
def pair(images: str, texts: str, output: Path, overwrite: bool) -> None:
    """Joins the vision tower of the bundle IMAGES and the text tower of the bundle TEXTS.

    For texts that were trained for another model's images, as M-CLIP's and
    clip-ViT-B-32-multilingual-v1's were for OpenAI's CLIP: the text model's card says for which.
    No file says so, and only the width of their vectors is checked. Scores are those of IMAGES.

    \b
    bareclip export sentence-transformers/clip-ViT-B-32-multilingual-v1 -o texts
    bareclip pair clip-b32 texts -o clip-b32-multilingual
    """
    found = [Bundle.read(find_bundle(name), whole=False) for name in (images, texts)]
    made = bundles.pair(found[0], found[1], output, overwrite)
    for name in dict.fromkeys([*found[0].precisions, *found[1].precisions]):
        if name not in made.precisions:
            note(f"{name} is left out, which one of them lacks")
    for name, towers in made.precisions.items():
        for tower, files in towers.items():
            if files.parity is not None:
                difference = f"{files.parity.max_difference:.1e}"
                note(f"{tower} at {name}: within {difference} of {files.parity.reference}")
    size = sum(record.size for record in made.files().values())
    say(f"{output}: {', '.join(made.precisions)}, {size / 1e6:.1f} MB")

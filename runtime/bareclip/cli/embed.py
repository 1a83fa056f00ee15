"""bareclip embed: image vectors into a file."""

import json
from pathlib import Path

import click
import numpy as np

from ..errors import BareclipError
from ..files import replacing
from ..types import PartialEmbeddings
from .options import ModelOptions, bundle_option, json_option, with_model
from .output import print_skipped, with_progress
from .sources import expand


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .npz file.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="Stop at the first image that cannot be read, or name it and go on.",
)
@json_option
@bundle_option
@with_model
def embed(
    model: ModelOptions, images: tuple[str, ...], output: Path, on_error: str, as_json: bool
) -> None:
    """Embeds IMAGES, files, folders or http(s) addresses, into a NumPy archive.

    It holds "vectors", (N, D) float32 of length 1, "names", and the "model" that made them.

    \b
    bareclip embed photos/ -o photos.npz --bundle clip-b32
    """
    if output.suffix != ".npz" or not output.parent.is_dir():
        raise BareclipError(f"cannot write {output}: give a .npz file in a folder that exists")
    sources = expand(images)
    clip = model.load()
    result = (
        clip.embed_images(with_progress([source.image for source in sources]), on_error="skip")
        if on_error == "skip"
        else PartialEmbeddings(
            clip.embed_images(with_progress([source.image for source in sources])),
            list(range(len(sources))),
            [],
        )
    )
    names = np.array([sources[i].name for i in result.kept], dtype=np.str_)
    with replacing(output) as file:
        np.savez(file, vectors=result.vectors, names=names, model=np.array(clip.bundle.name))
    print_skipped(result.failures)
    if as_json:
        skipped = [{"image": sources[f.index].name, "reason": f.reason} for f in result.failures]
        summary = {
            "output": str(output),
            "images": len(names),
            "width": result.vectors.shape[1],
            "skipped": skipped,
        }
        click.echo(json.dumps(summary, indent=2))
    else:
        count, width = result.vectors.shape
        click.echo(
            f"{output}: {count} vectors of width {width}, {len(result.failures)} images skipped"
        )

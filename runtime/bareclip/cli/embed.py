"""bareclip embed: vectors of images or of texts into a file."""

from pathlib import Path

import click
import numpy as np

from .. import BareclipError, Clip, Failure, TextError, Vectors
from ..files import replacing
from .options import ModelOptions, bundle_option, exclude_option, json_option, with_model
from .output import say, say_json, with_progress
from .sources import check_all_read, embed_sources, expand
from .standard_input import check_once, lines_of


@click.command()
@click.argument("images", nargs=-1)
@click.option("--texts", metavar="FILE", help="Embed the lines of a text file instead.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="A .npz file.")
@click.option(
    "--on-error",
    type=click.Choice(["report", "skip", "raise"]),
    default="report",
    show_default=True,
    help="When images cannot be read: name them, embed the others, and exit with 1; the same, "
    "but exit with 0; or stop at the first and write nothing.",
)
@exclude_option
@json_option
@bundle_option
@with_model
def embed(
    model: ModelOptions,
    images: tuple[str, ...],
    texts: str | None,
    output: Path,
    on_error: str,
    exclude: tuple[str, ...],
    as_json: bool,
) -> None:
    """Embeds IMAGES, or texts, into a NumPy archive.

    IMAGES are files, folders or http(s) addresses; the file of --texts has one text per line.
    Either may be - for standard input. The archive holds "vectors", (N, D) float32 of length 1,
    "names", which are the images' paths or the texts, and the "model" that made them.

    \b
    bareclip embed photos/ -o photos.npz --bundle clip-b32
    bareclip embed --texts captions.txt -o captions.npz --bundle clip-b32
    """
    if bool(images) == (texts is not None):
        raise click.UsageError("give either IMAGES or --texts FILE.")
    check_once(images)
    if output.suffix != ".npz" or not output.parent.is_dir():
        raise BareclipError(f"cannot write {output}: give a .npz file in a folder that exists")
    if texts is not None:
        lines = lines_of(texts)
        if not lines:
            raise TextError(f"{texts} holds no texts; write one per line")
        clip = model.load("text")
        _write(output, clip, lines, _embed_texts(clip, lines))
        _print(output, "texts", len(lines), clip, None, as_json)
        return
    sources = expand(images, exclude)
    clip = model.load("vision")
    found = embed_sources(clip, sources, stop=on_error == "raise")
    _write(output, clip, [sources[place].name for place in found.kept], found.vectors)
    skipped = [{"image": sources[f.index].name, "reason": f.reason} for f in found.failures]
    _print(output, "images", len(found.kept), clip, skipped, as_json)
    if on_error != "skip":
        check_all_read(found.failures, len(sources))


def _embed_texts(clip: Clip, texts: list[str]) -> Vectors:
    vectors = np.empty((len(texts), clip.texts.width), np.float32)
    found = with_progress(clip.texts.stream(texts), len(texts), "text")
    for place, vector in enumerate(found):
        if isinstance(vector, Failure):
            raise TextError(vector.reason)
        vectors[place] = vector
    return vectors


def _write(output: Path, clip: Clip, names: list[str], vectors: Vectors) -> None:
    with replacing(output) as file:
        model = np.array(clip.bundle.name)
        np.savez(file, vectors=vectors, names=np.array(names, dtype=np.str_), model=model)


def _print(
    output: Path,
    what: str,
    count: int,
    clip: Clip,
    skipped: list[dict[str, str]] | None,
    as_json: bool,
) -> None:
    width = clip.bundle.embedding_dim
    if as_json:
        told = {"output": str(output), what: count, "width": width}
        say_json(told if skipped is None else told | {"skipped": skipped})
    else:
        others = "" if skipped is None else f", {len(skipped)} {what} skipped"
        say(f"{output}: {count} vectors of width {width}{others}")

"""bareclip teach: a classifier from a few examples of each class."""

import dataclasses
from pathlib import Path

import click
import numpy as np

from .. import ClassifierError
from ..images.classes import list_classes
from ..scoring.teaching import METHODS, Method
from .options import (
    ModelOptions,
    bundle_option,
    exclude_option,
    json_option,
    templates_argument,
    with_model,
)
from .output import print_table, say, say_json
from .sources import Source, check_all_read, embed_sources, note_left_out


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The file to write, such as pets.npz.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="linear",
    show_default=True,
    help="A linear probe, or a cache of the examples themselves.",
)
@click.option("--templates", default="plain", show_default=True, help="As for classify.")
@exclude_option
@json_option
@bundle_option
@with_model
def teach(
    model: ModelOptions,
    folder: Path,
    output: Path,
    method: Method,
    templates: str,
    exclude: tuple[str, ...],
    as_json: bool,
) -> None:
    """Teaches a classifier with the pictures in FOLDER, one folder per class, two or more in each.

    It starts from what the folders' names say, and keeps to that where examples do not help:
    both are compared on examples that were held out. Then: bareclip classify --classifier.

    \b
    bareclip teach photos-by-class/ --bundle clip-b32 -o pets.npz
    """
    chosen = templates_argument(templates)
    if not output.parent.is_dir():
        raise ClassifierError(f"cannot write {output}: {output.parent} is not a folder")
    found = list_classes(folder, exclude)
    note_left_out(found.left_out, exclude)
    clip = model.load()
    clip.preload()
    embedded = embed_sources(clip, [Source(str(path), path) for path in found.paths])
    places = np.array([found.places[i] for i in embedded.kept], np.int64)
    examples = {
        label: embedded.vectors[places == place] for place, label in enumerate(found.labels)
    }
    classifier = clip.teach(examples, method=method, templates=chosen)
    classifier.save(output)
    taught = classifier.taught
    assert taught is not None, "it was taught"
    if as_json:
        say_json({"classes": len(found.labels)} | dataclasses.asdict(taught))
    else:
        say(f"{taught.examples} examples of {len(found.labels)} classes")
        accuracies = [
            ["zero-shot", f"{taught.zero_shot_accuracy:.1%}"],
            [method, f"{taught.taught_accuracy:.1%}"],
        ]
        print_table(["cross-validated", "accuracy"], accuracies)
        before, after = f"{taught.error_before:.1%}", f"{taught.error_after:.1%}"
        calibration = (
            f"was {before}, and is {after} with its temperature"
            if taught.error_after != taught.error_before
            else f"is {before}, which no temperature made less"
        )
        say(
            f"kept: {taught.method}; its calibration error, cross-validated, {calibration}",
            f"written: {output}",
        )
    check_all_read(embedded.failures, len(found.paths))

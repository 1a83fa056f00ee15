"""bareclip classify: which label fits an image."""

import dataclasses
import json

import click

from ..files import printable
from ..scoring.zero_shot import Ensemble, ranked
from ..texts.prompts import templates_argument
from .options import ModelOptions, bundle_option, json_option, lines_or_list, with_model
from .output import print_table, with_progress
from .sources import expand


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--labels", required=True, help='Such as "cat,dog,bird", or a text file with one a line.'
)
@click.option(
    "--templates",
    default="plain",
    show_default=True,
    help='plain, five, imagenet, a text file with one a line, or one such as "art of a {}".',
)
@click.option(
    "--ensemble",
    type=click.Choice(["embedding", "probability"]),
    default="embedding",
    show_default=True,
    help="Average a label's vectors over the templates, or its probabilities.",
)
@click.option("--top", type=click.IntRange(min=1), help="Print only the most probable labels.")
@json_option
@bundle_option
@with_model
def classify(
    model: ModelOptions,
    images: tuple[str, ...],
    labels: str,
    templates: str,
    ensemble: Ensemble,
    top: int | None,
    as_json: bool,
) -> None:
    """Zero-shot classification of IMAGES: files, folders or http(s) addresses.

    \b
    bareclip classify cat.jpg --labels "cat,dog,bird" --bundle clip-b32
    bareclip classify photos/ --labels labels.txt --templates imagenet --top 3 --bundle clip-b32
    """
    chosen = templates_argument(templates)
    sources = expand(images)
    clip = model.load()
    classifier = clip.classifier(lines_or_list(labels), templates=chosen, ensemble=ensemble)
    vectors = clip.embed_images(with_progress([source.image for source in sources]))
    probabilities = classifier.probabilities(vectors)
    results = [
        (source.name, ranked(classifier.labels, row, top))
        for source, row in zip(sources, probabilities, strict=True)
    ]
    if as_json:
        found = [
            {"image": name, "predictions": [dataclasses.asdict(p) for p in predictions]}
            for name, predictions in results
        ]
        click.echo(json.dumps(found, indent=2))
        return
    rows = [
        [printable(name) if place == 0 else "", prediction.label, f"{prediction.probability:.1%}"]
        for name, predictions in results
        for place, prediction in enumerate(predictions)
    ]
    print_table(["image", "label", "probability"], rows)

"""bareclip classify: which label fits an image."""

import dataclasses

import click

from ..scoring.zero_shot import Ensemble, ranked
from .options import (
    ModelOptions,
    bundle_option,
    exclude_option,
    json_option,
    labels_of,
    templates_argument,
    with_model,
)
from .output import print_table, say_json
from .sources import check_all_read, embed_sources, expand
from .standard_input import check_once


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--labels",
    required=True,
    help='Such as "cat,dog,bird", or a text file with one per line, or - for standard input.',
)
@click.option(
    "--templates",
    default="plain",
    show_default=True,
    help='plain, five, imagenet, a text file with one per line, or one such as "art of a {}".',
)
@click.option(
    "--ensemble",
    type=click.Choice(["embedding", "probability"]),
    default="embedding",
    show_default=True,
    help="Average a label's vectors over the templates, or its probabilities.",
)
@click.option("--top", type=click.IntRange(min=1), help="Print only the most probable labels.")
@exclude_option
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
    exclude: tuple[str, ...],
    as_json: bool,
) -> None:
    """Zero-shot classification: which label fits each of IMAGES, and how surely.

    IMAGES are files, folders or http(s) addresses. Either they or the labels may be - for
    standard input.

    \b
    bareclip classify cat.jpg --labels "cat,dog,bird" --bundle clip-b32
    bareclip classify photos/ --labels labels.txt --templates imagenet --top 3 --bundle clip-b32
    """
    check_once([*images, labels])
    names, chosen = labels_of(labels), templates_argument(templates)
    sources = expand(images, exclude)
    clip = model.load()
    clip.preload()  # both towers at once
    classifier = clip.classifier(names, templates=chosen, ensemble=ensemble)
    embedded = embed_sources(clip, sources)
    results = [
        (sources[place].name, ranked(classifier.labels, row, top))
        for place, row in zip(
            embedded.kept, classifier.probabilities(embedded.vectors), strict=True
        )
    ]
    if as_json:
        say_json(
            [
                {"image": name, "predictions": [dataclasses.asdict(p) for p in predictions]}
                for name, predictions in results
            ]
        )
    else:
        rows = [
            [name if place == 0 else "", prediction.label, f"{prediction.probability:.1%}"]
            for name, predictions in results
            for place, prediction in enumerate(predictions)
        ]
        print_table(["image", "label", "probability"], rows)
    check_all_read(embedded.failures, len(sources))

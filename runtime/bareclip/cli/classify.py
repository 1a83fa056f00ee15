"""bareclip classify: which label fits an image."""

import dataclasses
from pathlib import Path

import click

from .. import load_classifier
from ..encoders.label_cache import SMALLEST_PROMPTS
from ..scoring.zero_shot import Ensemble, ranked
from .options import (
    ModelOptions,
    bundle_option,
    check_not_given,
    classifier_option,
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
    help='Such as "cat,dog,bird", or a text file with one per line, or - for standard input.',
)
@classifier_option
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
    labels: str | None,
    saved: Path | None,
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
    bareclip classify photos/ --classifier pets.npz --bundle clip-b32
    """
    if (labels is None) == (saved is None):
        raise click.UsageError("give --labels or --classifier, one of the two.")
    check_once([*images, *([] if labels is None else [labels])])
    if saved is not None:
        check_not_given("--classifier", "templates", "ensemble")
        classifier = load_classifier(saved)  # what is wrong with it is said before a model loads
        sources = expand(images, exclude)
        clip = model.load("vision")
        classifier.check_model(clip.fingerprint)
    else:
        names, chosen = labels_of(labels or ""), templates_argument(templates)
        sources = expand(images, exclude)
        clip = model.load()
        if len(names) * len(chosen) < SMALLEST_PROMPTS:
            clip.preload()  # both towers at once; of more labels the cache may have the vectors
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

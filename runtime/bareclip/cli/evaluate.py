"""bareclip evaluate: how well a bundle answers on labelled data."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import click

from ..measure.accuracy import RECALL_AT, Setting, retrieval, zero_shot
from ..scoring.zero_shot import Ensemble
from ..texts.prompts import templates_argument
from .options import ModelOptions, json_option, with_model
from .output import print_skipped, print_table, with_progress


@click.command()
@click.argument("bundle")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--templates",
    multiple=True,
    default=["plain", "five"],
    show_default=True,
    help="As for classify; may be given several times, to compare.",
)
@click.option(
    "--ensemble",
    multiple=True,
    type=click.Choice(["embedding", "probability"]),
    default=["embedding", "probability"],
    show_default=True,
    help="May be given twice, to compare.",
)
@json_option
@with_model
def evaluate(
    model: ModelOptions,
    data: Path,
    templates: tuple[str, ...],
    ensemble: tuple[Ensemble, ...],
    as_json: bool,
) -> None:
    """Measures BUNDLE on DATA: a folder a class, or a .jsonl file of images with captions.

    A tree gives zero-shot top-1 and top-5 for each of the templates and ensembles. A line of
    the file is {"image": "a.jpg", "captions": ["a text"]}, its path relative to the file; it
    gives recall@1, 5 and 10 in both directions.

    \b
    bareclip evaluate clip-b32 photos-by-class/ --templates plain --templates imagenet
    bareclip evaluate clip-b32 captions.jsonl --json
    """
    settings = _settings(templates, ensemble)
    clip = model.load()
    if data.is_dir():
        report = zero_shot(clip, data, settings, with_progress)
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(report), indent=2))
            return
        print_skipped(report.failures)
        click.echo(f"{report.images} images of {report.classes} classes")
        rows = [
            [r.setting.name, r.setting.ensemble, f"{r.top1:.1%}", f"{r.top5:.1%}"]
            for r in report.results
        ]
        print_table(["templates", "ensemble", "top-1", "top-5"], rows, right=2)
        return
    found = retrieval(clip, data, with_progress)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found), indent=2))
        return
    print_skipped(found.failures)
    click.echo(f"{found.images} images, {found.captions} captions")
    rows = [
        [direction, *(f"{recall[k]:.1%}" for k in RECALL_AT)]
        for direction, recall in (
            ("image to text", found.image_to_text),
            ("text to image", found.text_to_image),
        )
    ]
    print_table(["direction", *(f"recall@{k}" for k in RECALL_AT)], rows, right=len(RECALL_AT))


def _settings(names: Sequence[str], ensembles: Sequence[Ensemble]) -> list[Setting]:
    """All combinations; a single template is asked once, since ensembles of one agree."""
    settings = []
    for name in names:
        templates = templates_argument(name)
        telling = ensembles if len(templates) > 1 else ensembles[:1]
        settings += [Setting(name, templates, ensemble) for ensemble in telling]
    return settings

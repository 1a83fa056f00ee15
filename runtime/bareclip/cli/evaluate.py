"""bareclip evaluate: how well a bundle answers on labelled data."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click

from .. import Failure
from ..measure.accuracy import (
    RECALL_AT,
    RetrievalReport,
    Setting,
    ZeroShotReport,
    retrieval,
    zero_shot,
)
from ..scoring.zero_shot import Ensemble
from .options import ModelOptions, exclude_option, json_option, templates_argument, with_model
from .output import note, print_table, say, say_json, with_progress
from .sources import check_all_read, note_left_out


@click.command()
@click.argument("bundle")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--templates",
    multiple=True,
    default=["plain", "five"],
    show_default=True,
    help="As for classify. May be given several times, to compare.",
)
@click.option(
    "--ensemble",
    multiple=True,
    type=click.Choice(["embedding", "probability"]),
    default=["embedding", "probability"],
    show_default=True,
    help="May be given twice, to compare.",
)
@exclude_option
@json_option
@with_model
def evaluate(
    model: ModelOptions,
    data: Path,
    templates: tuple[str, ...],
    ensemble: tuple[Ensemble, ...],
    exclude: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measures how well BUNDLE answers on DATA, pictures whose labels or captions are known.

    DATA is a folder that holds one folder of images per class, named for it: that gives
    zero-shot top-1 and top-5 for each of the templates and ensembles. Or it is a .jsonl file with
    lines such as {"image": "a.jpg", "captions": ["a text"]}, paths relative to it: that gives
    recall@1, 5 and 10, of texts by image and of images by text.

    \b
    bareclip evaluate clip-b32 photos-by-class/ --templates plain --templates imagenet
    bareclip evaluate clip-b32 captions.jsonl --json
    """
    settings = _settings(templates, ensemble)
    clip = model.load()
    if data.is_dir():
        report = zero_shot(clip, data, settings, with_progress, exclude)
        note_left_out(report.left_out, exclude)
        _print_zero_shot(report, as_json)
        _end(report.failures, report.images)
    else:
        found = retrieval(clip, data, with_progress)
        _print_retrieval(found, as_json)
        _end(found.failures, found.images)


def _print_zero_shot(report: ZeroShotReport, as_json: bool) -> None:
    if as_json:
        say_json(dataclasses.asdict(report))
        return
    say(f"{report.images} images of {report.classes} classes")
    rows = [
        [r.setting.name, r.setting.ensemble, f"{r.top1:.1%}", f"{r.top5:.1%}"]
        for r in report.results
    ]
    print_table(["templates", "ensemble", "top-1", "top-5"], rows, right=2)


def _print_retrieval(report: RetrievalReport, as_json: bool) -> None:
    if as_json:
        say_json(dataclasses.asdict(report))
        return
    say(f"{report.images} images, {report.captions} captions")
    rows = [
        [direction, *(f"{recall[k]:.1%}" for k in RECALL_AT)]
        for direction, recall in (
            ("image to text", report.image_to_text),
            ("text to image", report.text_to_image),
        )
    ]
    print_table(["direction", *(f"recall@{k}" for k in RECALL_AT)], rows, right=len(RECALL_AT))


def _end(failures: Sequence[Failure], others: int) -> None:
    for failure in failures:
        note(f"skipped: {failure.reason}")
    check_all_read(failures, len(failures) + others)


def _settings(names: Sequence[str], ensembles: Sequence[Ensemble]) -> list[Setting]:
    """All combinations; a single template is asked once, since ensembles of one agree."""
    settings = []
    for name in names:
        templates = templates_argument(name)
        telling = ensembles if len(templates) > 1 else ensembles[:1]
        settings += [Setting(name, templates, ensemble) for ensemble in telling]
    return settings

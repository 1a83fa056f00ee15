"""bareclip demo: the whole story on the demo model and the pictures that ship with it."""

from collections.abc import Sequence
from pathlib import Path

import click
from PIL import Image

from .. import BareclipError, Clip, Vectors, load
from ..bundle import DEMO
from ..show.sheet import Cell, Section, contact_sheet
from .output import print_table, say

# Drawings that training did not show, named for what they show.
PICTURES = DEMO / "pictures"
LABELS = (
    "cat", "dog", "bird", "fish", "car", "flower", "tree", "house", "horse", "rabbit", "rocket",
    "apple",
)  # fmt: skip
QUERIES = ("a sunset over the ocean", "three green triangles", "a dog on the beach")


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("bareclip-demo.png"),
    show_default=True,
    help="The contact sheet to write, a .png file.",
)
def demo(output: Path) -> None:
    """Classifies, compares and finds pictures with the demo model; needs no download.

    \b
    bareclip demo
    bareclip demo -o answers.png
    """
    if output.suffix != ".png" or not output.parent.is_dir():
        raise BareclipError(f"cannot write {output}: give a .png file in a folder that exists")
    clip = load()
    paths = sorted(PICTURES.glob("*.png"))
    vectors = clip.embed_images(paths)
    sections = [_classify(clip, *_chosen(paths, vectors, LABELS))]
    _compare(clip, *_chosen(paths, vectors, ("cat", "dog", "cat-and-dog")))
    sections += _search(clip, paths, vectors)
    contact_sheet(sections, columns=4).save(output)
    say("", f"The same as a picture: {output}")
    say(
        "For photos, use a real model: bareclip export openai/clip-vit-base-patch32 -o clip-b32, "
        "then add --bundle clip-b32"
    )


def _chosen(
    paths: list[Path], vectors: Vectors, names: Sequence[str]
) -> tuple[list[Path], Vectors]:
    rows = [row for row, path in enumerate(paths) if path.stem in names]
    return [paths[row] for row in rows], vectors[rows]


def _classify(clip: Clip, paths: list[Path], vectors: Vectors) -> Section:
    say(f"Zero-shot classification: which of {len(LABELS)} labels fits, and how surely?")
    say('One prompt, "a photo of a {}", beside five, combined in two ways.', "")
    settings = [("plain", "embedding"), ("five", "embedding"), ("five", "probability")]
    answers = []
    for templates, ensemble in settings:
        classifier = clip.classifier(LABELS, templates=templates, ensemble=ensemble)  # type: ignore[arg-type]
        probabilities = classifier.probabilities(vectors)
        best = probabilities.argmax(axis=1)
        answers.append([(LABELS[b], row[b]) for b, row in zip(best, probabilities, strict=True)])
    rows = [
        [path.name, *(f"{label} {probability:.1%}" for label, probability in found)]
        for path, *found in zip(paths, *answers, strict=True)
    ]
    header = ["picture", "one prompt", "five, mean vector", "five, mean probability"]
    print_table(header, rows, right=3)
    cells = [
        Cell(Image.open(path), (f"{label} {probability:.1%}", f"among {len(LABELS)} labels"))
        for path, (label, probability) in zip(paths, answers[1], strict=True)
    ]
    return Section("Zero-shot classification, five prompts", cells)


def _compare(clip: Clip, paths: list[Path], vectors: Vectors) -> None:
    texts = ["a cat", "a dog", "a cat and a dog"]
    cosines = clip.similarity(vectors, clip.embed_texts(texts))
    say("", "Similarity: the cosine of a picture and a text.", "")
    rows = [
        [path.name, *(f"{cosine:.3f}" for cosine in row)]
        for path, row in zip(paths, cosines, strict=True)
    ]
    print_table(["picture", *texts], rows, right=len(texts))


def _search(clip: Clip, paths: list[Path], vectors: Vectors) -> list[Section]:
    say("", f"Search: the pictures nearest to a text, of {len(paths)}.", "")
    sections, rows = [], []
    for query in QUERIES:
        hits = clip.search(vectors, paths, text=query, k=4)
        rows.append([query, *(f"{hit.item.stem} {hit.similarity:.2f}" for hit in hits[:2])])
        cells = [
            Cell(Image.open(hit.item), (f"{rank}. {hit.item.stem}", f"{hit.similarity:.3f}"))
            for rank, hit in enumerate(hits, start=1)
        ]
        sections.append(Section(f'Search: "{query}"', cells))
    print_table(["text", "nearest", "second"], rows, right=2)
    return sections

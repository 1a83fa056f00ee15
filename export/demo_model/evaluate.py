"""Measures a saved model on every split: `python -m demo_model.evaluate --help`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

from demo_model import questions, splits
from demo_model.backgrounds import Picture
from demo_model.captions import ENSEMBLE_TEMPLATES, SINGLE_TEMPLATE
from demo_model.compose import Painter, SpriteBook
from demo_model.concepts import load_concepts
from demo_model.draw import TRAINING
from demo_model.zero_shot import CHUNK, class_vectors, share_right

PICTURE_SIDE = 128
"""Pixels: larger than the model takes, so that its own preparation is part of the figure."""

LABEL_COUNT = 200
EACH = 5
ANIMALS_EACH = 100
COMBINATION_COUNT = 200

PHRASE_SINGLE = ("a photo of {}",)
PHRASE_ENSEMBLE = ("a photo of {}", "a picture of {}", "an image of {}")


@dataclass(frozen=True)
class SavedModel:
    """A model with its tokenizer and picture preparation, as saved."""

    model: CLIPModel
    tokenizer: CLIPTokenizerFast
    processor: CLIPImageProcessor

    @classmethod
    def load(cls, directory: Path) -> SavedModel:
        """Loads a directory in the Hugging Face layout."""
        return cls(
            CLIPModel.from_pretrained(directory).eval(),
            CLIPTokenizerFast.from_pretrained(directory),
            CLIPImageProcessor.from_pretrained(directory),
        )

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Picture]) -> Tensor:
        """Returns unit vectors `[pictures, width]`."""
        chunks = []
        for start in range(0, len(pictures), CHUNK):
            images = [Image.fromarray(picture) for picture in pictures[start : start + CHUNK]]
            pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
            chunks.append(self.model.get_image_features(pixels))
        return functional.normalize(torch.cat(chunks), dim=-1)

    def texts(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Returns unit vectors `[names, width]`."""
        return class_vectors(self.model, self.tokenizer, names, templates)


@dataclass(frozen=True)
class Score:
    """Shares right, 0..1, with one template and with the ensemble, and that of guessing."""

    single: float
    ensemble: float
    chance: float
    pictures: int


def score_labelled(
    saved: SavedModel, labelled: Sequence[splits.Labelled], names: Sequence[str]
) -> Score:
    """Classifies the pictures whose label is among the names."""
    kept = [item for item in labelled if item.label in names]
    vectors = saved.pictures([item.picture for item in kept])
    target = [names.index(item.label) for item in kept]
    single, ensemble = (
        share_right(vectors, saved.texts(names, templates), target)
        for templates in ((SINGLE_TEMPLATE,), ENSEMBLE_TEMPLATES)
    )
    return Score(single, ensemble, 1 / len(names), len(kept))


def score_questions(saved: SavedModel, asked: Sequence[questions.Question]) -> Score:
    """Chooses among each question's own phrases."""
    vectors = saved.pictures([question.picture for question in asked])
    phrases = sorted({phrase for question in asked for phrase in question.phrases})
    index = {phrase: position for position, phrase in enumerate(phrases)}
    shares = []
    for templates in (PHRASE_SINGLE, PHRASE_ENSEMBLE):
        cosines = vectors @ saved.texts(phrases, templates).T
        right = [
            int(row[[index[phrase] for phrase in question.phrases]].argmax()) == question.right
            for row, question in zip(cosines, asked, strict=True)
        ]
        shares.append(float(np.mean(right)))
    return Score(shares[0], shares[1], 1 / len(asked[0].phrases), len(asked))


def measure(saved: SavedModel, font: Path, other_font: Path | None) -> dict[str, Score]:
    """Measures every split; the other artist's only where there is another font."""
    concepts = load_concepts()
    everything = [concept.name for concept in concepts]
    plain = splits.plain_labels(concepts, LABEL_COUNT)
    book, side = SpriteBook(font), PICTURE_SIDE
    painter = Painter(book, side, TRAINING)
    validation = splits.validation_pictures(book, concepts, EACH, side)
    renderings = splits.rendering_pictures(book, concepts, EACH, side)
    newest = splits.newest_pictures(book, concepts, EACH, side)
    animals = splits.animal_pictures(book, concepts, ANIMALS_EACH, side)
    scores = {
        "validation, all names": score_labelled(saved, validation, everything),
        "renderings, 200 names": score_labelled(saved, renderings, plain),
        "renderings, all names": score_labelled(saved, renderings, everything),
        "newest backgrounds, 200 names": score_labelled(saved, newest, plain),
        "counted shapes": score_questions(saved, questions.ask_counted(painter, EACH)),
        "counted shapes, number only": score_questions(
            saved, questions.ask_how_many(painter, EACH)
        ),
        "pairs": score_questions(saved, questions.ask_pairs(painter, concepts, COMBINATION_COUNT)),
        "relations": score_questions(saved, questions.ask_relations(painter, COMBINATION_COUNT)),
    }
    for animal in splits.ANIMALS:
        of_animal = [item for item in animals if item.label == animal]
        scores[f"four animals, {animal}"] = score_labelled(saved, of_animal, splits.ANIMALS)
    if other_font is not None:
        drawn = splits.other_artist_pictures(SpriteBook(other_font), concepts, EACH, side)
        scores["other artist, 200 names"] = score_labelled(saved, drawn, plain)
        scores["other artist, all names"] = score_labelled(saved, drawn, everything)
        scores["other artist, four animals"] = score_labelled(saved, drawn, splits.ANIMALS)
    return scores


def _rounded(score: Score) -> dict[str, float]:
    return {name: round(value, 6) for name, value in vars(score).items()}


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--font", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--other-font", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(model: Path, font: Path, other_font: Path | None, out: Path) -> None:
    """Writes the figures of MODEL to OUT as JSON and prints them."""
    scores = measure(SavedModel.load(model), font, other_font)
    rounded = {name: _rounded(score) for name, score in scores.items()}
    out.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")
    for name, score in scores.items():
        click.echo(
            f"{name:32} single {score.single:6.1%}  ensemble {score.ensemble:6.1%}"
            f"  chance {score.chance:6.2%}  of {score.pictures}"
        )


if __name__ == "__main__":
    main()

"""Some of the model card's figures, computed again by the runtime on pictures drawn anew."""

import json
from pathlib import Path

import pytest

import bareclip
from bareclip.texts.prompts import FIVE, PLAIN
from demo_model import evaluate as evaluation
from demo_model import splits
from demo_model.compose import SpriteBook
from demo_model.concepts import load_concepts
from tests.demo_model.font import FONT, needs_figures_font

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore"), needs_figures_font]

FIGURES = json.loads(
    (Path(evaluation.__file__).with_name("figures.json")).read_text(encoding="utf-8")
)
POINT = 0.011  # a picture in a hundred may fall the other side of a tie


@pytest.mark.parametrize("animal", splits.ANIMALS)
def test_the_four_animals(animal: str) -> None:
    clip = bareclip.load(reading="as_stored")
    drawn = splits.animal_pictures(
        SpriteBook(FONT), load_concepts(), evaluation.ANIMALS_EACH, evaluation.PICTURE_SIDE
    )
    pictures = [item.picture for item in drawn if item.label == animal]
    assert len(pictures) == 100
    figures = FIGURES[f"four animals, {animal}"]
    for templates, wanted in ((PLAIN, figures["single"]), (FIVE, figures["ensemble"])):
        answers = clip.classify(pictures, splits.ANIMALS, templates=templates, top=1)
        right = sum(best.label == animal for [best] in answers) / len(pictures)
        assert right == pytest.approx(wanted, abs=POINT)


def test_two_hundred_names_on_held_out_renderings() -> None:
    clip = bareclip.load(reading="as_stored")
    concepts = load_concepts()
    labels = splits.plain_labels(concepts, evaluation.LABEL_COUNT)
    every = splits.rendering_pictures(
        SpriteBook(FONT), concepts, evaluation.EACH, evaluation.PICTURE_SIDE
    )
    drawn = [item for item in every if item.label in labels]
    answers = clip.classify([item.picture for item in drawn], labels, top=1)
    right = sum(best.label == item.label for [best], item in zip(answers, drawn, strict=True))
    wanted = FIGURES["renderings, 200 names"]["single"]
    assert right / len(drawn) == pytest.approx(wanted, abs=POINT)

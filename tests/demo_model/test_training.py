"""The training code on small settings. Needs PyTorch; drawing glyphs needs the emoji font."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from bareclip.scoring import vectors as similarity
from demo_model import splits, train
from demo_model.combinations import counted_shapes
from demo_model.compose import Painter, SpriteBook
from demo_model.concepts import load_concepts
from demo_model.data import TrainingStream, draw_samples
from demo_model.draw import HELD_OUT, TRAINING
from demo_model.model import contrastive_loss
from demo_model.vocabulary import save_tokenizer, training_texts
from tests.demo_model.font import FONT, needs_font

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

TRAIN_STEPS = train.train_steps

SMALL_PLAN = train.Plan(
    stages=(train.Stage(16, 30), train.Stage(32, 10)),
    batch_size=32,
    warm_up_steps=10,
    checkpoint_every=20,
)


def test_names_are_unique_and_many() -> None:
    concepts = load_concepts()
    names = [concept.name for concept in concepts]
    assert len(set(names)) == len(names) >= 500
    assert set(splits.EVERYDAY) <= set(names)


def test_no_plain_label_is_a_kind_of_another() -> None:
    concepts = {concept.name: concept for concept in load_concepts()}
    labels = splits.plain_labels(tuple(concepts.values()), 200)
    assert len(set(labels)) == 200
    assert not any(set(concepts[label].kinds) & set(labels) for label in labels)


def test_held_out_ranges_lie_outside_the_training_ranges() -> None:
    low, high = TRAINING.shares[0][0], TRAINING.shares[-1][1]
    assert all(end <= low or start >= high for start, end in HELD_OUT.shares)
    assert min(start for start, _ in HELD_OUT.turns) >= max(end for _, end in TRAINING.turns)
    assert not set(HELD_OUT.backgrounds) & set(TRAINING.backgrounds)


def test_counted_shapes_are_split_without_overlap() -> None:
    held_out = {shapes.phrase for shapes in counted_shapes(held_out=True)}
    shown = {shapes.phrase for shapes in counted_shapes(held_out=False)}
    assert "three green triangles" in held_out
    assert not held_out & shown
    assert len(held_out | shown) == 400


def test_the_loss_that_trains_is_the_runtimes() -> None:
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, 24, 16))
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    for scale in (1.0, 20.0, 100.0):
        ours = contrastive_loss(torch.tensor(image), torch.tensor(text), torch.tensor(scale))
        wanted = similarity.contrastive_loss(image, text, math.log(scale))
        assert ours.item() == pytest.approx(wanted, abs=1e-5)


def test_tokenizer_knows_every_byte_and_ends_with_the_highest_id(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, training_texts())
    ids = tokenizer("Ünïcode ☃ xyz a  CAT")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == len(tokenizer) - 2
    assert ids[-1] == tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.unk_token_id not in ids[:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "ünïcode ☃ xyz a cat"


def test_vocabulary_is_the_same_in_every_run(tmp_path: Path) -> None:
    for name in ("first", "second"):
        save_tokenizer(tmp_path / name, training_texts())
    files = [tmp_path / name / "tokenizer.json" for name in ("first", "second")]
    assert files[0].read_bytes() == files[1].read_bytes()


@needs_font
def test_a_batch_depends_on_the_seed_and_the_step_alone(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, training_texts())

    def stream() -> TrainingStream:
        return TrainingStream(font=FONT, tokenizer=tokenizer, batch_size=32, sides=(32, 32), seed=5)

    first = stream()
    _ = first[0]
    assert torch.equal(first[1].pixels, stream()[1].pixels)
    sent = pickle.loads(pickle.dumps(first))  # to the process that draws, where it is not forked
    assert torch.equal(first[1].pixels, sent[1].pixels)


@needs_font
def test_captions_in_a_batch_differ() -> None:
    rng = np.random.default_rng(0)
    samples = draw_samples(Painter(SpriteBook(FONT), 32, TRAINING), load_concepts(), 128, rng)
    assert len({sample.caption for sample in samples}) == 128


def half_the_steps(*args: object) -> Iterator[train.Progress]:
    """Stops as an interruption would, after a checkpoint and a few more steps."""
    return islice(TRAIN_STEPS(*args), 25)


@needs_font
def test_loss_falls_and_an_interrupted_run_ends_the_same(tmp_path: Path) -> None:
    whole = train.train(tmp_path / "whole", FONT, SMALL_PLAN)
    log = [json.loads(line) for line in (tmp_path / "whole" / train.LOG).open()]
    assert log[-1]["loss"] < log[0]["loss"]

    interrupted = tmp_path / "interrupted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train_steps", half_the_steps)
        train.train(interrupted, FONT, SMALL_PLAN)
    resumed = train.train(interrupted, FONT, SMALL_PLAN)
    # To the last bit, on one machine: a second run is the same model.
    for ours, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(ours, theirs)

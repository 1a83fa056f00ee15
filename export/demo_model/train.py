"""Trains the demo model from nothing: `python -m demo_model.train --font FONT --out DIRECTORY`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch.optim import AdamW
from transformers import CLIPModel, CLIPTokenizerFast

from demo_model.captions import SINGLE_TEMPLATE
from demo_model.compose import SpriteBook
from demo_model.concepts import load_concepts
from demo_model.data import TrainingStream, drawn_ahead
from demo_model.model import (
    LARGEST_LOGIT_SCALE,
    contrastive_loss,
    image_vectors,
    make_config,
    make_model,
    save_model,
    text_vectors,
)
from demo_model.splits import validation_pictures
from demo_model.vocabulary import save_tokenizer, training_texts
from demo_model.zero_shot import class_vectors, picture_vectors, share_right

CHECKPOINT = "checkpoint.pt"
LOG = "training.jsonl"


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one picture side, in pixels."""

    side: int
    steps: int


@dataclass(frozen=True)
class Plan:
    """Everything a training run depends on besides the code and the font.

    Attributes:
        stages: Small pictures first: they are several times cheaper and teach most of it.
        checkpoint_every: Steps between checkpoints.
    """

    stages: tuple[Stage, ...]
    batch_size: int = 256
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.1
    warm_up_steps: int = 300
    seed: int = 20261123
    checkpoint_every: int = 250

    @property
    def sides(self) -> tuple[int, ...]:
        """The picture side of every step."""
        return tuple(stage.side for stage in self.stages for _ in range(stage.steps))


FULL_PLAN = Plan(stages=(Stage(32, 4500), Stage(48, 1500), Stage(64, 1500)))


@dataclass(frozen=True)
class Progress:
    """One step's outcome."""

    step: int
    side: int
    loss: float
    logit_scale: float


def learning_rate_at(step: int, plan: Plan) -> float:
    """Warms up linearly, then falls to nothing along a cosine of the pixels seen so far."""
    warm = min(1.0, (step + 1) / plan.warm_up_steps)
    pixels = np.square(plan.sides)
    seen = float(pixels[:step].sum() / pixels.sum())
    return plan.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * seen))


def make_optimizer(model: CLIPModel, plan: Plan) -> AdamW:
    """Decays matrices only: not gains, biases or the temperature."""
    decayed = [weight for weight in model.parameters() if weight.ndim >= 2]
    kept = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": plan.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.98), eps=1e-6)


def train_steps(
    model: CLIPModel,
    optimizer: AdamW,
    stream: TrainingStream,
    plan: Plan,
    first_step: int,
) -> Iterator[Progress]:
    """Trains in place from `first_step` to the end, yielding after every step."""
    model.train()
    for step, batch in enumerate(drawn_ahead(stream, first_step), start=first_step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, plan)
        logit_scale = model.logit_scale.exp()
        loss = contrastive_loss(
            image_vectors(model, batch.pixels), text_vectors(model, batch.tokens), logit_scale
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(LARGEST_LOGIT_SCALE))
        yield Progress(step, plan.sides[step], loss.item(), logit_scale.item())


def save_checkpoint(
    directory: Path, model: CLIPModel, optimizer: AdamW, plan: Plan, step: int
) -> None:
    """Replaces the checkpoint in one move, so that an interruption leaves the last one whole."""
    state = {
        "plan": asdict(plan),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    partial = directory / f"{CHECKPOINT}.partial"
    torch.save(state, partial)
    partial.replace(directory / CHECKPOINT)


def load_checkpoint(directory: Path, model: CLIPModel, optimizer: AdamW, plan: Plan) -> int:
    """Restores what `save_checkpoint` saved and returns the next step: 0 where nothing was."""
    path = directory / CHECKPOINT
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["plan"] != asdict(plan):
        raise ValueError(f"{path} belongs to another plan; start in an empty directory")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def train(directory: Path, font: Path, plan: Plan) -> CLIPModel:
    """Trains a model, resuming from the directory's checkpoint, and saves it there.

    No random state is kept: a batch is a function of the seed and the step, and the model
    draws nothing while it trains.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(directory, training_texts())
    model = make_model(make_config(tokenizer), plan.seed)
    optimizer = make_optimizer(model, plan)
    first_step = load_checkpoint(directory, model, optimizer, plan)
    stream = TrainingStream(
        font=font,
        tokenizer=tokenizer,
        batch_size=plan.batch_size,
        sides=plan.sides,
        seed=plan.seed,
    )
    validate = make_validation(model, tokenizer, font)
    started = time.monotonic()
    losses: list[float] = []
    for progress in train_steps(model, optimizer, stream, plan, first_step):
        losses.append(progress.loss)
        done = progress.step + 1
        if done % plan.checkpoint_every and done != len(plan.sides):
            continue
        save_checkpoint(directory, model, optimizer, plan, done)
        record = {
            "step": done,
            "side": progress.side,
            "loss": round(float(np.mean(losses)), 4),
            "logit_scale": round(progress.logit_scale, 2),
            "validation_top1": round(validate(progress.side), 4),
            "seconds": round(time.monotonic() - started, 1),
        }
        losses.clear()
        with (directory / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        click.echo(json.dumps(record))
    save_model(directory, model)
    return model


def make_validation(
    model: CLIPModel, tokenizer: CLIPTokenizerFast, font: Path
) -> Callable[[int], float]:
    """Returns a function of the picture side: zero-shot top-1 among every concept."""
    concepts = load_concepts()
    book = SpriteBook(font)

    def validate(side: int) -> float:
        split = validation_pictures(book, concepts, 1, side)
        model.eval()
        classes = class_vectors(model, tokenizer, [c.name for c in concepts], [SINGLE_TEMPLATE])
        vectors = picture_vectors(model, [item.picture for item in split])
        model.train()
        return share_right(vectors, classes, range(len(concepts)))

    return validate


@click.command()
@click.option("--font", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(font: Path, out: Path) -> None:
    """Trains the demo model with FONT's glyphs and saves it in OUT; resumes if interrupted."""
    train(out, font, FULL_PLAN)


if __name__ == "__main__":
    main()

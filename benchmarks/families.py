"""Both towers of several models, fp32 and int8, against the first of them, in turns.

    python -m benchmarks.families BUNDLE... --json docs/performance/families.json

Bundles of seeded weights take a processor through the same work as trained ones:

    python -m tests.seeded.open_clip CHECKPOINT --size MobileCLIP2-S0 --tokenizer tokenizer.json
    bareclip export CHECKPOINT -o BUNDLE --precision fp32,int8 \\
        --calibrate photos/ --captions captions.txt

Every tower is loaded, then all are asked one after another, round after round; the best of a
tower's rounds counts, which is what a neighbour disturbed least.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bareclip.bundle import Bundle
from bareclip.encoders import ImageEncoder, Options, TextEncoder
from bareclip.inference.processor import instructions
from bareclip.measure.samples import TEXTS, drawn_pixels
from bareclip.measure.speed import machine

PRECISIONS = ("fp32", "int8")
WORKS = {"image": "one image", "images": "8 images, each", "text": "one text"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report = measured([Bundle.read(path) for path in given.bundles], given.rounds)
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))


def measured(bundles: list[Bundle], rounds: int) -> dict[str, Any]:
    """Milliseconds of every model, precision and kind of work."""
    works = {
        (bundle.folder.name, precision, name): work
        for bundle in bundles
        for precision in PRECISIONS
        if precision in bundle.precisions
        for name, work in _works(bundle, precision).items()
    }
    best = dict.fromkeys(works, float("inf"))
    for work in works.values():
        work()
    for _ in range(rounds):
        for key, work in works.items():
            started = time.perf_counter()
            work()
            best[key] = min(best[key], 1000 * (time.perf_counter() - started))
    models: dict[str, Any] = {bundle.folder.name: {} for bundle in bundles}
    for (model, precision, name), took in best.items():
        each = took / 8 if name == "images" else took
        models[model].setdefault(precision, {})[name] = round(each, 2)
    return {
        "machine": machine() | {"instructions": " ".join(instructions() or ("unknown",))},
        "rounds": rounds,
        "models": models,
    }


def _works(bundle: Bundle, precision: str) -> dict[str, Callable[[], object]]:
    options = Options(precision=precision, device="cpu", cache=False)
    images, texts = ImageEncoder(bundle, options), TextEncoder(bundle, options)
    pixels = drawn_pixels(images.recipe.size, 8)
    return {
        "image": partial(images.embed_pixels, pixels[:1]),
        "images": partial(images.embed_pixels, pixels, batch_size=8),
        "text": partial(texts.embed, TEXTS[:1]),
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown: milliseconds, and how many times as fast as the first model."""
    lines = [
        f"| ms | | {' | '.join(WORKS.values())} |",
        f"| --- | --- |{' --- |' * len(WORKS)}",
    ]
    [first, *_] = report["models"].values()
    for model, precisions in report["models"].items():
        for precision, times in precisions.items():
            cells = [
                f"{times[name]:.1f} ({first[precision][name] / times[name]:.2f}x)"
                if precision in first
                else f"{times[name]:.1f}"
                for name in WORKS
            ]
            lines.append(f"| {model} | {precision} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

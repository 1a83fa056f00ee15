"""An index of a million vectors is tagged with a thousand labels: seconds, and memory.

    python -m benchmarks.tagging --folder /somewhere/with/10/GB    # some minutes, most to fill it
    python -m benchmarks.tagging --quick

The vectors are those of ``benchmarks.search``, made up, in a thousand clusters; the labels are the
clusters' directions, at CLIP's scale of 100. What is timed runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import bareclip
from bareclip.bundle import Scoring
from bareclip.index.store import Store
from bareclip.scoring.heads import Head
from bareclip.scoring.vectors import normalize
from bareclip.scoring.zero_shot import LabelMatrix
from benchmarks.search import clustered

LABELS = 1000
STEP = 20_000

# Run in a new process, which did not make the vectors.
_TAG = r"""
import json, re, sys, time
from pathlib import Path
import numpy as np
import bareclip
db, file = sys.argv[1:]
seconds, processor = {}, {}
def timed(name, work):
    started, used = time.perf_counter(), time.process_time()
    found = work()
    seconds[name] = time.perf_counter() - started
    processor[name] = time.process_time() - used  # of all threads: a busy machine moves it less
    return found
def peak():
    # Not getrusage, whose peak begins with that of the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
classifier = bareclip.load_classifier(file)
with bareclip.Index.open(db) as index:
    index.search(np.eye(1, index.made_by.width)[0], k=1)  # the vectors' file is there and checked
    mapped = peak()
    report = timed("tag", lambda: index.tag(classifier))
    most = peak()
    timed("one_tags_best_ten", lambda: index.tagged(classifier.labels[0], k=10))
    vector = np.eye(1, index.made_by.width)[0]
    timed("a_query_within_a_tag", lambda: index.search(vector, tag=classifier.labels[0]))
    timed("all_tags_read", lambda: sum(1 for _ in index.tags()))
print(json.dumps({"items": report.items, "tagged": report.tagged, "tags": report.tags,
    "seconds": seconds, "processor_seconds": processor,
    "peak_mb": most / 1e6, "peak_before_mb": mapped / 1e6}))
"""


def fill(db: Path, vectors: int, width: int) -> None:
    """Makes an index of made-up vectors."""
    clip = bareclip.load()
    made_by = replace(clip.fingerprint, width=width)
    store = Store.make(db, made_by, clip.bundle.folder)
    for first in range(0, vectors, STEP):
        rows = clustered(min(STEP, vectors - first), width, seed=1 + first)
        with store.writing(), store.transaction():
            for place, row in enumerate(rows, start=first):
                store.items.add(str(place).encode(), row, None)
    store.close()
    with bareclip.Index.open(db) as index:
        index.search(np.eye(1, width)[0], k=1)  # makes the vectors' file


def measure(folder: Path, vectors: int, width: int) -> dict[str, Any]:
    """Figures of one index, which is made in ``folder`` unless it is there."""
    db, file = folder / f"{vectors}-{width}.db", folder / f"{width}.npz"
    if not db.exists():
        fill(db, vectors, width)
    centres = np.random.default_rng(0).standard_normal((LABELS, width), np.float32)
    labels = tuple(f"cluster {i}" for i in range(LABELS))
    matrix = LabelMatrix(labels, normalize(centres).astype(np.float32)[None])
    made_by = replace(bareclip.load().fingerprint, width=width)
    scoring = Scoring("softmax", float(np.log(100)), 0.0)
    bareclip.Classifier(Head(matrix, scoring), made_by).save(file)
    command = [sys.executable, "-c", _TAG, str(db), str(file)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found: dict[str, Any] = json.loads(answer)
    return {"width": width, "labels": LABELS} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="where to make the index, or to find it again")
    arguments = parser.parse_args()
    vectors = 3000 if arguments.quick else arguments.vectors
    if arguments.folder:
        found = measure(arguments.folder, vectors, arguments.width)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), vectors, arguments.width)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

"""How fast a bundle answers here: latency, throughput, and where the time goes.

Every figure is a median over repeats, which go on until the median's 95 % confidence interval
is within 5 % of it or time is up; the interval that was reached is reported beside it.
"""

import io
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .bundle import TOKENIZER, Bundle
from .cuda import load_tower
from .errors import DeviceError
from .image_input import open_image
from .installation import import_onnxruntime, package_version
from .preprocess import pixels
from .samples import TEXTS, drawn_pixels, prompts, unlike_texts
from .session import Device, Tower
from .threads import Threads, default_threads
from .tokenizer import Tokenizer
from .zero_shot import LabelMatrix

BATCHES = (1, 2, 4, 8, 16, 32)
# What throughput is measured of; texts begin unlike each other, prompts as labels' do.
WORKS = {"images": "vision", "texts": "text", "prompts": "text"}
LABELS = 1000
_PHOTO = (640, 480)
_WARM_UP = 3
_FEWEST = 5
_PRECISE = 0.05


@dataclass(frozen=True)
class Timing:
    """Repeats of one piece of work, in milliseconds.

    Attributes:
        p50, p90, p99: Percentiles.
        repeats: How many there were.
        uncertainty: Half the 95 % confidence interval of the median, as a share of it.
    """

    p50: float
    p90: float
    p99: float
    repeats: int
    uncertainty: float


@dataclass(frozen=True)
class Rate:
    """Throughput of a tower at a batch size and a number of threads.

    Attributes:
        work: Of ``WORKS``.
    """

    work: str
    batch: int
    threads: int
    per_second: float
    uncertainty: float


@dataclass(frozen=True)
class Case:
    """One precision on one device.

    Attributes:
        image, text: One at a time, from the file's bytes or the string to the vector; None
            where the bundle has no such tower.
        rates: Of the towers alone.
    """

    precision: str
    device: str
    image: Timing | None
    text: Timing | None
    rates: list[Rate]

    def encode(self, work: str) -> float | None:
        """Milliseconds of a tower for one input, on all threads; None without that tower."""
        alone = [r for r in self.rates if (r.work, r.batch) == (work, 1)]
        most = max((rate.threads for rate in alone), default=0)
        return next((1000 / rate.per_second for rate in alone if rate.threads == most), None)


@dataclass(frozen=True)
class Report:
    """What was measured, and on what.

    Attributes:
        machine: CPU, cores, versions.
        stages: Step of the way -> milliseconds, of what is the same at every precision; what
            else there is, encoding, is ``Case.encode``.
        cases: A precision and device each.
        stolen: Share of the time that the machine's host gave to others; None where unknown.
    """

    bundle: str
    machine: dict[str, str]
    stages: dict[str, float]
    cases: list[Case]
    stolen: float | None


def run(
    bundle: Bundle,
    seconds: float = 1.0,
    report: Callable[[str], None] = lambda message: None,
) -> Report:
    """Measures every precision of a bundle, wherever it runs.

    Args:
        bundle: To be measured.
        seconds: Most for one figure.
        report: Told each step in a line.
    """
    before = _steal()
    tokenizer = None
    if bundle.text is not None:
        tokenizer = Tokenizer.load(bundle.folder / TOKENIZER, bundle.text)
    photo = _photo()
    report("decoding, resizing, tokenizing, scoring")
    stages = _stages(bundle, tokenizer, photo, seconds)
    cases = []
    for precision in bundle.precisions:
        for device in _devices(precision):
            report(f"{precision} on {device.name}")
            try:
                cases.append(_case(bundle, precision, device, tokenizer, photo, seconds))
            except DeviceError as error:
                if not device.on_cuda:
                    raise
                warnings.warn(f"{error}: not measured there", RuntimeWarning, stacklevel=2)
    return Report(bundle.name, machine(), stages, cases, _stolen(before, _steal()))


def measure(work: Callable[[], object], seconds: float) -> Timing:
    """Times some work, after a warm-up, until the median is certain enough.

    Args:
        work: To be repeated.
        seconds: When to stop in any case, with at least a few repeats.
    """
    for _ in range(_WARM_UP):
        work()
    times: list[float] = []
    started = time.perf_counter()
    while True:
        begun = time.perf_counter()
        work()
        ended = time.perf_counter()
        times.append(1000 * (ended - begun))
        enough = len(times) >= _FEWEST and (
            ended - started > seconds or (len(times) % 10 == 0 and uncertainty(times) < _PRECISE)
        )
        if enough:
            break
    p50, p90, p99 = (float(p) for p in np.percentile(times, (50, 90, 99)))
    return Timing(p50, p90, p99, len(times), uncertainty(times))


def uncertainty(times: Sequence[float]) -> float:
    """Half the median's 95 % confidence interval, as a share of the median.

    From order statistics, whatever the distribution: the ranks n/2 -+ 1.96 sqrt(n)/2
    (Conover, Practical Nonparametric Statistics, section 3.2).
    """
    ordered = sorted(times)
    reach = 1.96 * len(ordered) ** 0.5 / 2
    low = max(int(len(ordered) / 2 - reach), 0)
    high = min(int(len(ordered) / 2 + reach), len(ordered) - 1)
    return (ordered[high] - ordered[low]) / 2 / median(ordered)


def machine() -> dict[str, str]:
    """CPU, cores and versions, for a report that others may want to repeat."""
    facts = {
        "cpu": _cpu_name(),
        "cores": str(default_threads()),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "onnxruntime": import_onnxruntime().__version__,
    }
    for package in ("bareclip", "numpy", "pillow", "tokenizers"):
        facts[package] = package_version(package) or "unknown"
    return facts


def _case(
    bundle: Bundle,
    precision: str,
    device: Device,
    tokenizer: Tokenizer | None,
    photo: bytes,
    seconds: float,
) -> Case:
    graphs = {t: bundle.folder / bundle.tower(precision, t).graph for t in bundle.towers}
    own = default_threads()

    def load(tower: str, threads: int) -> Tower:
        return load_tower(graphs[tower], device, Threads(threads))

    def one(name: str) -> Timing:
        tower = load(name, own)
        if name == "text":
            return measure(lambda: tower.run(_ids(tokenizer, TEXTS[:1])), seconds)
        recipe = bundle.image_recipe()
        return measure(lambda: tower.run(pixels(photo, recipe, "as_seen")[None]), seconds)

    def rate(tower: Tower, work: str, threads: int, batch: int) -> Rate:
        if work == "images":
            given: NDArray[Any] = drawn_pixels(bundle.image_recipe().size, batch)
        else:
            given = _ids(tokenizer, (unlike_texts if work == "texts" else prompts)(batch))
        timing = measure(lambda: tower.run(given), seconds)
        return Rate(work, batch, threads, 1000 * batch / timing.p50, timing.uncertainty)

    latency = {name: one(name) for name in bundle.towers}
    rates = []
    for threads in sorted({1, own}) if device.name == "cpu" else [own]:
        for name in bundle.towers:
            tower = load(name, threads)
            works = [work for work, its in WORKS.items() if its == name]
            rates += [rate(tower, work, threads, batch) for work in works for batch in BATCHES]
    return Case(precision, device.name, latency.get("vision"), latency.get("text"), rates)


def _ids(tokenizer: Tokenizer | None, texts: list[str]) -> NDArray[np.int64]:
    """(N, T) of texts as one batch, all filled up to the longest."""
    if tokenizer is None:
        raise ValueError("a bundle with a text tower has a tokenizer")
    ids = tokenizer.encode(texts, truncate=True)
    longest = max(range(len(ids)), key=lambda place: len(ids[place]))
    [(_, row)] = tokenizer.batches([ids[longest]], 1)
    batch = np.full((len(ids), row.shape[1]), tokenizer.recipe.pad_id, np.int64)
    for line, tokens in zip(batch, sorted(ids), strict=True):
        line[: len(tokens)] = tokens
    return batch


def _stages(
    bundle: Bundle, tokenizer: Tokenizer | None, photo: bytes, seconds: float
) -> dict[str, float]:
    vectors = np.random.default_rng(0).standard_normal((1, LABELS, bundle.embedding_dim))
    labels = LabelMatrix(tuple(map(str, range(LABELS))), vectors.astype(np.float32))
    stages = {}
    if bundle.image is not None:
        recipe = bundle.image
        decode = measure(lambda: open_image(photo).load(), seconds).p50
        whole = measure(lambda: pixels(photo, recipe, "as_seen"), seconds).p50
        stages[f"decode a {_PHOTO[0]}x{_PHOTO[1]} JPEG"] = decode
        stages["resize and crop it"] = max(whole - decode, 0.0)
    if tokenizer is not None:
        tokenize = measure(lambda: tokenizer.encode(TEXTS[:1], truncate=True), seconds).p50
        stages["tokenize a text"] = tokenize
    stages[f"score it among {LABELS} labels"] = measure(
        lambda: labels.probabilities(labels.vectors[0, :1], bundle.scoring), seconds
    ).p50
    return stages


def _devices(precision: str) -> list[Device]:
    names = ["cpu", *(["cuda"] if Device.parse("auto").on_cuda else [])]
    found = []
    for device in (Device(name, required=True) for name in names):
        try:
            device.check_precision(precision)
        except DeviceError:
            continue
        found.append(device)
    return found


def _photo() -> bytes:
    """A JPEG such as cameras and the web have, drawn."""
    file = io.BytesIO()
    Image.fromarray(drawn_pixels(_PHOTO[0], 1)[0, : _PHOTO[1]]).save(file, "JPEG", quality=90)
    return file.getvalue()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _steal() -> tuple[int, int] | None:
    """Ticks stolen by the host, and all ticks, since the machine started."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
        ticks = [int(tick) for tick in first.split()[1:]]
    except (OSError, ValueError):
        return None
    return (ticks[7], sum(ticks[:8])) if len(ticks) > 7 else None


def _stolen(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    if before is None or after is None or after[1] == before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])

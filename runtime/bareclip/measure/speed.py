"""How fast a bundle answers here: latency, throughput, and where the time goes.

Every figure is a median over repeats, which go on until the median's 95 % confidence interval
is within 5 % of it or time is up; the interval that was reached is reported beside it.
"""

import io
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..bundle import Bundle
from ..encoders import ImageEncoder, Options, TextEncoder
from ..errors import DeviceError
from ..images.inputs import open_picture
from ..images.pixels import read_pixels
from ..inference.device import BF16, Device, stored
from ..inference.installation import import_onnxruntime, package_version
from ..inference.processor import instructions
from ..inference.threads import default_threads
from ..scoring.heads import Head
from ..scoring.zero_shot import LabelMatrix
from .samples import TEXTS, drawn_pixels, prompts, unlike_texts

BATCHES = (1, 2, 4, 8, 16, 32)
# What throughput is measured of; texts begin unlike each other, prompts as labels' do.
WORKS = {"images": "vision", "texts": "text", "prompts": "text"}
LABELS = 1000
_PHOTO = (640, 480)
_WARM_UP = 3
_PLAIN = ("fp32", "cpu")
# What is less than this much faster than fp32 is not worth what it rounds.
_WORTH = 1.1
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
    photo = _photo()
    report("decoding, resizing, tokenizing, scoring")
    stages = _stages(bundle, photo, seconds)
    cases = []
    precisions = [*bundle.precisions, *([BF16] if stored(BF16) in bundle.precisions else [])]
    for precision in precisions:
        for device in _devices(precision):
            report(f"{precision} on {device}")
            try:
                cases.append(_case(bundle, precision, device, photo, seconds))
            except DeviceError as error:
                if device == "cpu":
                    raise
                warnings.warn(f"{error}: not measured there", RuntimeWarning, stacklevel=2)
    return Report(bundle.name, machine(), stages, cases, _stolen(before, _steal()))


def advice(report: Report) -> str:
    """One line: what was fastest here at pictures and at texts, fp32 where nothing gains much."""
    found = []
    for work, what in (("images", "pictures"), ("texts", "texts")):
        rates = {
            (case.precision, case.device): max(several)
            for case in report.cases
            if (several := [rate.per_second for rate in case.rates if rate.work == work])
        }
        if not rates:
            continue
        best, plain = max(rates, key=lambda case: rates[case]), rates.get(_PLAIN, 0.0)
        if rates[best] < _WORTH * plain:
            best = _PLAIN
        gain = f", {rates[best] / plain:.1f} times fp32's" if plain and best != _PLAIN else ""
        precision, device = best
        found.append(f"{what} at {precision} on {device} ({rates[best]:.0f} a second{gain})")
    return "Fastest here: " + "; ".join(found)


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
        "instructions": ", ".join(instructions() or ()) or "unknown",
        "cores": str(default_threads()),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "onnxruntime": import_onnxruntime().__version__,
    }
    for package in ("bareclip", "numpy", "pillow", "tokenizers"):
        facts[package] = package_version(package) or "unknown"
    if (openvino := package_version("openvino")) is not None:
        facts["openvino"] = openvino
    return facts


def _case(bundle: Bundle, precision: str, device: str, photo: bytes, seconds: float) -> Case:
    own = default_threads()
    towers = [name for name in bundle.towers if name in bundle.precisions[stored(precision)]]

    def options(threads: int) -> Options:
        return Options(precision=precision, device=device, threads=threads, cache=False)

    def one(name: str) -> Timing:
        if name == "text":
            texts = TextEncoder(bundle, options(own))
            return measure(lambda: texts.embed(TEXTS[:1]), seconds)
        images = ImageEncoder(bundle, options(own))
        return measure(lambda: images.embed([photo]), seconds)

    def rates(name: str, threads: int) -> Iterator[Rate]:
        if name == "text":
            texts = TextEncoder(bundle, options(threads))
        else:
            images = ImageEncoder(bundle, options(threads))
        for work in (work for work, its in WORKS.items() if its == name):
            for batch in BATCHES:
                if name == "text":
                    given = (unlike_texts if work == "texts" else prompts)(batch)
                    run = partial(texts.embed_tokens, _one_batch(texts, given))
                else:
                    pixels = drawn_pixels(images.recipe.size, batch)
                    run = partial(images.embed_pixels, pixels, batch_size=batch)
                timing = measure(run, seconds)
                yield Rate(work, batch, threads, 1000 * batch / timing.p50, timing.uncertainty)

    latency = {name: one(name) for name in towers}
    found = [
        rate
        for threads in (sorted({1, own}) if device == "cpu" else [own])
        for name in towers
        for rate in rates(name, threads)
    ]
    return Case(precision, device, latency.get("vision"), latency.get("text"), found)


def _one_batch(encoder: TextEncoder, texts: list[str]) -> NDArray[np.int64]:
    """(N, T) of texts as one batch, all filled up to the longest."""
    tokenizer = encoder.tokenizer
    ids = tokenizer.encode(texts, truncate=True)
    longest = max(range(len(ids)), key=lambda place: len(ids[place]))
    [(_, row)] = tokenizer.batches([ids[longest]], 1)
    batch = np.full((len(ids), row.shape[1]), tokenizer.recipe.pad_id, np.int64)
    for line, tokens in zip(batch, sorted(ids), strict=True):
        line[: len(tokens)] = tokens
    return batch


def _stages(bundle: Bundle, photo: bytes, seconds: float) -> dict[str, float]:
    vectors = np.random.default_rng(0).standard_normal((1, LABELS, bundle.embedding_dim))
    labels = LabelMatrix(tuple(map(str, range(LABELS))), vectors.astype(np.float32))
    head = Head(labels, bundle.scoring)
    stages = {}
    if bundle.image is not None:
        recipe = bundle.image
        decode = measure(lambda: open_picture(photo).decode(), seconds).p50
        whole = measure(lambda: read_pixels(photo, recipe, "as_seen"), seconds).p50
        stages[f"decode a {_PHOTO[0]}x{_PHOTO[1]} JPEG"] = decode
        stages["resize and crop it"] = max(whole - decode, 0.0)
    if bundle.text is not None:
        tokenizer = TextEncoder(bundle, Options(any_precision=True)).tokenizer
        tokenize = measure(lambda: tokenizer.encode(TEXTS[:1], truncate=True), seconds).p50
        stages["tokenize a text"] = tokenize
    stages[f"score it among {LABELS} labels"] = measure(
        lambda: head.probabilities(labels.vectors[0, :1]), seconds
    ).p50
    return stages


def _devices(precision: str) -> list[str]:
    names = ["cpu", *(["cuda"] if Device.parse("auto").on_cuda else [])]
    names += ["openvino"] if package_version("openvino") else []
    found = []
    for name in names:
        try:
            Device(name, required=True).check_precision(precision)
        except DeviceError:
            continue
        found.append(name)
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

"""bareclip bench: what it measures, that it stops, and what it shows."""

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bareclip.bundle import Bundle
from bareclip.measure import samples, speed
from tests.runtime.test_cli import run


def test_percentiles_are_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    durations = iter([9.0] * 3 + [0.010] * 90 + [0.050] * 200)  # the warm-up is slow

    def work() -> None:
        clock[0] += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    steady = speed.measure(work, seconds=100)
    assert (steady.p50, steady.p99) == (pytest.approx(10), pytest.approx(10))
    assert steady.uncertainty == pytest.approx(0, abs=1e-9)
    assert steady.repeats == 10  # certain enough


def test_it_stops_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rng = [0.0], np.random.default_rng(0)

    def work() -> None:
        clock[0] += float(rng.exponential(0.1))

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    noisy = speed.measure(work, seconds=3)
    assert 15 < noisy.repeats < 60
    assert noisy.uncertainty > 0.05
    assert noisy.p50 < noisy.p90 < noisy.p99


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        times = rng.exponential(1.0, 60)
        middle, reach = np.median(times), speed.uncertainty(times) * np.median(times)
        held += abs(middle - np.log(2)) <= reach * 1.3  # the interval is not symmetric
    assert 0.9 < held / 400 <= 1


@pytest.fixture(scope="module")
def bundle(precise: Path) -> Path:
    pytest.importorskip("onnxruntime", minversion="1.22")  # which int8 and int4 need
    return precise


def test_every_precision_that_runs_here_is_measured(bundle: Path) -> None:
    report = speed.run(Bundle.read(bundle), seconds=0.001)
    assert [(case.precision, case.device) for case in report.cases] == [
        ("fp32", "cpu"),
        ("int8", "cpu"),
        ("int4", "cpu"),
    ]
    for case in report.cases:
        assert case.image.p50 > 0
        assert {rate.work for rate in case.rates} == {"images", "texts", "prompts"}
        assert {rate.batch for rate in case.rates} == set(speed.BATCHES)
        assert all(rate.per_second > 0 for rate in case.rates)
    assert len(report.stages) == 4
    assert report.machine["onnxruntime"]
    assert report.stolen is None or 0 <= report.stolen <= 1


def test_texts_that_are_measured_begin_unlike_each_other_and_prompts_alike() -> None:
    texts, prompts = samples.unlike_texts(32), samples.prompts(32)
    assert len({*texts}) == len({*prompts}) == 32
    assert len({text.split()[0] for text in texts}) == 26
    assert {tuple(prompt.split()[:4]) for prompt in prompts} == {("a", "photo", "of", "a")}


def test_encoding_is_the_towers_time_for_one_on_all_threads() -> None:
    rates = [
        speed.Rate("images", batch, threads, 100.0 * threads * batch, 0.0)
        for threads in (1, 2)
        for batch in (1, 8)
    ]
    case = speed.Case("fp32", "cpu", None, None, rates)
    assert case.encode("images") == pytest.approx(5)
    assert case.encode("texts") is None


def test_what_is_fastest_is_recommended_if_it_is_worth_its_rounding() -> None:
    def case(precision: str, device: str, images: float, texts: float) -> speed.Case:
        rates = [speed.Rate("images", 8, 2, images, 0.0), speed.Rate("images", 1, 2, 1.0, 0.0)]
        rates.append(speed.Rate("texts", 8, 2, texts, 0.0))
        return speed.Case(precision, device, None, None, rates)

    def advice(*cases: speed.Case) -> str:
        return speed.advice(speed.Report("x", {}, {}, [*cases], None))

    fp32, int8 = case("fp32", "cpu", 20, 100), case("int8", "cpu", 70, 105)
    assert advice(fp32, int8) == (
        "Fastest here: pictures at int8 on cpu (70 a second, 3.5 times fp32's); "
        "texts at fp32 on cpu (100 a second)"
    )
    assert "pictures at fp32 on cuda (900 a second, 45.0 times" in advice(
        fp32, case("fp32", "cuda", 900, 10)
    )
    assert advice(int8).startswith("Fastest here: pictures at int8 on cpu (70 a second);")


def test_the_command(bundle: Path, tmp_path: Path) -> None:
    plot = tmp_path / "speed.png"
    found = run("bench", bundle, "--seconds", "0.001", "--plot", plot)
    for text in ("Images: a second", "Prompts, ", "int4", "p99", "resize and crop it",
                 "encode the text at fp32, cpu", "stolen by the host",
                 "Fastest here: pictures at "):  # fmt: skip
        assert text in found.stdout
    image = Image.open(io.BytesIO(plot.read_bytes()))
    assert image.size == (1560, 840)
    told = json.loads(run("bench", "--json", "--seconds", "0.001").stdout)
    assert told["bundle"] == "bareclip-demo"
    assert told["cases"][0]["rates"][0].keys() >= {"per_second", "uncertainty"}
    complaint = run("bench", "--plot", tmp_path / "none" / "x.png", code=1).stderr
    assert "give a .png file in a folder that exists" in complaint

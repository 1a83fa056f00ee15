"""Every benchmark runs, on a small model, in seconds; none rots."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import cold_start, compare, cuda, families, performance, roofline, threads

from bareclip.bundle import Bundle
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from tests.variants import picture


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(bundles["tiny"], tmp_path_factory.mktemp("b") / "bundle"))
    quantize(Bundle.read(folder), "int8", Data([], []))
    return folder


def call(main: object, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
    main()  # type: ignore[operator]


def test_comparison_cold_start_roofline_and_their_page(
    bundle: Path,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos, results = tmp_path / "photos", tmp_path / "performance"
    photos.mkdir()
    results.mkdir()
    for number in range(9):
        picture(60, 50, number).save(photos / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    call(
        compare.main, monkeypatch, checkpoints["tiny"], "--photos", photos, "--envs", tmp_path,
        "--peers", "bareclip,bareclip-int8", "--rounds", 2, "--prompts", 8,
        "--json", results / "compare.json",
    )  # fmt: skip
    found = json.loads((results / "compare.json").read_text())
    assert found["failed"] == {}
    assert found["peers"]["bareclip"]["cosine"]["photos"] == pytest.approx(1)
    assert 0.9 < found["peers"]["bareclip-int8"]["cosine"]["photos"] < 1
    assert found["peers"]["bareclip"]["ratio"]["prompts"] == 1
    call(
        cold_start.main, monkeypatch, bundle, "--photo", photos / "0.png", "--rounds", 1,
        "--json", results / "cold_start.json",
    )  # fmt: skip
    cold = json.loads((results / "cold_start.json").read_text())["cases"]
    assert {len(case["worker_mb"]) for case in cold.values()} == {4}
    assert all(5 < case["peak_mb"] < 500 for case in cold.values())
    call(roofline.main, monkeypatch, bundle, "--rounds", 1, "--json", results / "roofline.json")
    call(
        threads.main, monkeypatch, bundle, "--photos", photos, "--rounds", 1,
        "--json", results / "threads.json",
    )  # fmt: skip
    waiting = json.loads((results / "threads.json").read_text())["precisions"]["int8"]
    assert {*waiting} >= {"idle", "a neighbour on one core"}
    assert all(ms > 0 for case in waiting["idle"].values() for ms in case.values())
    call(
        families.main, monkeypatch, bundle, "--rounds", 2, "--json", results / "families.json",
    )  # fmt: skip
    [(name, precisions)] = json.loads((results / "families.json").read_text())["models"].items()
    assert [*precisions] == ["fp32", "int8"]
    assert all(0 < ms < 1000 for times in precisions.values() for ms in times.values())
    assert f"| {name} | int8 |" in capsys.readouterr().out
    performance.main(results)
    page = (tmp_path / "performance.md").read_text()
    assert "| private memory of each further worker, fp32 | 120 MB |" in page
    assert "| bareclip-int8 |" in page
    assert (results / "compare.png").stat().st_size > 5000


def test_products_are_those_that_are_executed(bundle: Path, tmp_path: Path) -> None:
    from bareclip.measure.samples import drawn_pixels

    graph = bundle / "fp32" / "vision.onnx"
    shapes = roofline.executed(graph, drawn_pixels(32, 4), tmp_path)
    # Three blocks of width 48 and three heads on 17 tokens, the last for one of them.
    assert shapes[(4, 17, 48), (48, 48)] == 2 * 4  # query, key, value and output
    assert shapes[(4, 17, 48), (48, 96)] == 2
    assert shapes[(4, 3, 17, 16), (4, 3, 16, 17)] == 2
    assert shapes[(4, 1, 48), (48, 48)] == 2  # the last block's query and output
    assert (
        shapes[(4, 3, 48), (48, 48)] == 2
    )  # a row a head, through the keys' and the values' weight
    assert sum(shapes.values()) == 1 + 2 * 8 + 8 + 1


def test_prompts_are_of_as_many_labels() -> None:
    prompts = compare.prompts(1000)
    assert len({*prompts}) == 1000
    assert all(prompt.startswith("a photo of a ") for prompt in prompts)


def test_a_miss_is_shown_as_one() -> None:
    peer = {"ratio": {"encode": 1.2, "photos": 2.0, "prompts": 9.0}}
    report = {"peers": {"bareclip": {}, "transformers": peer}, "counts": {}}
    cold = {"cases": {"fp32, cached": {"seconds": 1.0, "worker_mb": [9, 150, 130]}}}
    roof = {"precisions": {"fp32": {"of_products": 0.9}}}
    lines = performance.aims(report, cold, roof).splitlines()
    missed = [line.split("|")[1].strip() for line in lines if "missed" in line]
    assert missed == [
        "images encoded, batch 8, to transformers (SDPA)",
        "private memory of each further worker, fp32",
    ]


def test_a_peer_wins_where_it_is_faster_and_as_near() -> None:
    def peer(ms: float, cosine: float) -> dict[str, Any]:
        return {
            "ms": {work: {"median": ms} for work in compare.WORKS},
            "cosine": dict.fromkeys(compare.WORKS, cosine),
        }

    peers = {
        "bareclip": peer(20, 1), "bareclip-int8": peer(8, 0.999), "transformers": peer(50, 1),
        "openvino-bf16": peer(6, 0.9999), "careless": peer(2, 0.9),
    }  # fmt: skip
    assert compare.best({"peers": peers}, "encode") == ("bareclip-int8", "openvino-bf16", 0.75)
    assert "**lost**" in compare.winners({"peers": peers})[-1]
    del peers["openvino-bf16"]
    assert compare.best({"peers": peers}, "encode") == ("bareclip-int8", "transformers", 6.25)


def test_the_gpu_benchmark_runs_on_a_cpu(
    bundle: Path,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(9):
        picture(60, 50, number).save(tmp_path / "photos" / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    call(
        cuda.main, monkeypatch, bundle, "--photos", "photos", "--device", "cpu", "--largest", 4,
        "--product", 64, "--seconds", 0.01, "--checkpoint", checkpoints["tiny"],
        "--json", "cuda.json",
    )  # fmt: skip
    report = json.loads(Path("cuda.json").read_text())
    assert (report["device"], report["photos"], [*report["precisions"]]) == ("cpu", 9, ["fp32"])
    case = report["precisions"]["fp32"]
    assert case["least_cosine"].keys() == {"vision", "text"}
    assert min(case["least_cosine"].values()) == pytest.approx(1, abs=1e-5)
    assert [*case["throughput"]] == ["1", "2", "4"]
    assert [*case["latency"]] == ["one kernel at a time"]
    assert case["of_product"] > 0
    assert report["host"]["end_to_end"] > 0 < report["host"]["decoded"]
    page = capsys.readouterr().out
    assert "| images a second, by batch | 1 | 2 | 4 |" in page
    assert "missed" not in page
    for case in report["precisions"].values():
        case["least_cosine"]["text"] = 0.9998
    assert cuda.table(report).count("**missed**") == 1


def test_aims_of_the_gpu_benchmark() -> None:
    def case(p50: float, rate: float, how: str) -> dict[str, object]:
        return {"latency": {how: {"p50": p50, "p99": p50}}, "throughput": {"1": rate}}

    report = {"gpus": 1, "precisions": {"fp16": case(1.0, 100, "CUDA graphs")}}
    peers = {"eager": case(1.9, 80, "SDPA"), "compiled": case(1.5, 101, "SDPA")}
    lines = cuda.aims(report, peers)
    assert ["missed" in line for line in lines] == [False, True, True]
    lines = cuda.aims(report | {"gpus": 2}, peers)  # which would be twice as many images
    assert ["missed" in line for line in lines] == [True, True, True]
    assert cuda.aims(report, {}) == []

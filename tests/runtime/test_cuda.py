"""Towers on GPUs, against a fake that behaves as ONNX Runtime documents, and against its CPU."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip.bundle import Bundle
from bareclip.encoders import image_encoder, text_encoder
from bareclip.inference import cuda
from bareclip.inference import device as devices
from bareclip.inference import installation as installations
from bareclip.inference.cuda import CudaTower, bucket_size
from bareclip.inference.device import Device
from bareclip.inference.installation import Driver
from bareclip.inference.session import Tower
from bareclip.inference.threads import Threads
from bareclip.measure import speed
from bareclip.measure.fidelity import compare, make_corpus
from tests.runtime.fake_cuda import FakeCuda
from tests.variants import batch

CPU = Device("cpu", required=True)
ONE = Threads(1)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    machine = FakeCuda()
    machine.install(monkeypatch)
    return machine


@pytest.fixture(scope="module")
def graph(bundles: dict[str, Path]) -> Path:
    return bundles["tiny"] / "fp32" / "vision.onnx"


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return batch(32, 40)


@pytest.fixture(scope="module")
def wanted(graph: Path, pixels: np.ndarray) -> np.ndarray:
    return Tower.load(graph, CPU, ONE).run(pixels)


def on_gpus(graph: Path, name: str = "cuda", **options: str) -> CudaTower:
    return CudaTower.load(graph, Device(name, required=True, options=options), ONE)


def each(tower: Tower, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The answers to batches without tags."""
    return (rows for _, rows in tower.map((None, b) for b in batches) if rows is not None)


def close(found: np.ndarray, right: np.ndarray) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, right, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 33])
def test_buffers_are_bound_and_reused_on_a_real_session(
    graph: Path, pixels: np.ndarray, wanted: np.ndarray, count: int
) -> None:
    tower = CudaTower.load(graph, CPU, ONE)
    first = tower.run(pixels[:count])
    close(first, wanted[:count])
    close(tower.run(pixels[-count:]), wanted[-count:])
    close(first, wanted[:count])  # its rows are its own, not the buffer's
    assert (tower.device, tower.captures) == ("cpu", False)


def test_batches_come_back_in_order_from_a_real_session(
    graph: Path, pixels: np.ndarray, wanted: np.ndarray
) -> None:
    tower = CudaTower.load(graph, CPU, ONE)
    cuts = [3, 4, 9, 10, 17, 33]
    answers = [*each(tower, np.split(pixels, cuts))]
    for answer, right in zip(answers, np.split(wanted, cuts), strict=True):
        close(answer, right)
    assert [*tower.map([])] == []


def test_texts_on_a_real_session(bundles: dict[str, Path]) -> None:
    texts = bundles["tiny"] / "fp32" / "text.onnx"
    ids = np.arange(3 * 8).reshape(3, 8)
    close(CudaTower.load(texts, CPU, ONE).run(ids), Tower.load(texts, CPU, ONE).run(ids))


def test_another_type_is_refused_not_reinterpreted(graph: Path, pixels: np.ndarray) -> None:
    tower = CudaTower.load(graph, CPU, ONE)
    with pytest.raises(bareclip.BareclipError, match="takes uint8, and was given float32"):
        tower.run(pixels[:1].astype(np.float32))


def test_a_batch_is_filled_up_to_a_power_of_two() -> None:
    assert [bucket_size(n) for n in (1, 2, 3, 4, 5, 8, 9, 64, 65)] == [
        1, 2, 4, 4, 8, 8, 16, 64, 128,
    ]  # fmt: skip


def test_a_bucket_never_answers_with_anothers_result(
    fake: FakeCuda, graph: Path, pixels: np.ndarray, wanted: np.ndarray
) -> None:
    tower = on_gpus(graph)
    rng = np.random.default_rng(0)
    for count in [1, 2, 3, 4, 5, 6, 7, 8, *rng.integers(1, 20, 60)]:
        rows = rng.choice(len(pixels), count, replace=False)
        close(tower.run(pixels[rows]), wanted[rows])
    replayed = {run.shape[0] for run in fake.runs if run.how == "replay"}
    assert replayed == {1, 2, 4, 8}
    assert {run.shape[0] for run in fake.runs if run.how == "run"} == {16, 32}


@pytest.fixture(scope="module")
def half_texts(precise: Path) -> Path:
    """The text tower in fp16."""
    pytest.importorskip("onnxruntime", minversion="1.20")  # whose attention has a bias for a query
    return precise / "fp16" / "text.onnx"


def test_widths_of_texts_are_buckets_of_their_own(fake: FakeCuda, half_texts: Path) -> None:
    right, tower = Tower.load(half_texts, CPU, ONE), on_gpus(half_texts)
    for _ in range(2):
        for width in (4, 8, 12):
            ids = np.random.default_rng(width).integers(0, 200, (3, width))
            close(tower.run(ids), right.run(ids))
    assert [(run.shape, run.how) for run in fake.runs] == [
        *(((4, width), "capture") for width in (4, 8, 12)),
        *(((4, width), "replay") for width in (4, 8, 12)),
    ]


def test_texts_that_share_prefixes_are_not_captured(
    fake: FakeCuda, bundles: dict[str, Path]
) -> None:
    texts = bundles["tiny"] / "fp32" / "text.onnx"
    right, tower = Tower.load(texts, CPU, ONE), on_gpus(texts)
    ids = np.random.default_rng(0).integers(0, 3, (5, 6))
    for _ in range(2):
        close(tower.run(ids), right.run(ids))
    assert not tower.captures
    assert {run.how for run in fake.runs} == {"run"}


def test_buffers_are_made_once_and_take_bytes(
    fake: FakeCuda, graph: Path, pixels: np.ndarray
) -> None:
    tower = on_gpus(graph)
    for start in range(0, 30, 3):
        tower.run(pixels[start : start + 3])
    assert fake.buffers == 2
    assert fake.uploaded == 10 * 4 * 32 * 32 * 3  # a byte a value, four rows for three
    assert len({run.thread for run in fake.runs}) == 1  # ONNX Runtime's graphs are a thread's


def test_captures_of_many_threads_and_gpus_do_not_meet(
    fake: FakeCuda, graph: Path, pixels: np.ndarray, wanted: np.ndarray
) -> None:
    towers = [on_gpus(graph, "cuda:0,1"), on_gpus(graph, "cuda:2")]

    def work(index: int) -> None:
        rng = np.random.default_rng(index)
        for count in rng.integers(1, 17, 12):
            rows = rng.choice(len(pixels), count, replace=False)
            close(towers[index % 2].run(pixels[rows]), wanted[rows])

    with ThreadPoolExecutor(6) as pool:
        [*pool.map(work, range(6))]
    assert sum(run.how == "capture" for run in fake.runs) > 8


def test_several_gpus_share_the_work_and_keep_the_order(
    fake: FakeCuda, graph: Path, pixels: np.ndarray, wanted: np.ndarray
) -> None:
    fake.delays = {0: 0.03, 1: 0.001}
    tower = on_gpus(graph, "cuda:0,1", enable_cuda_graph="0")
    assert tower.device == "cuda:0,1"
    cuts = [*range(2, 40, 2)]
    for answer, right in zip(
        each(tower, np.split(pixels, cuts)), np.split(wanted, cuts), strict=True
    ):
        close(answer, right)
    runs = [sum(run.gpu == gpu for run in fake.runs) for gpu in (0, 1)]
    assert sum(runs) == 20
    assert runs[1] > runs[0] > 0  # the faster one did more
    assert [options["device_id"] for options in fake.options] == ["0", "1"]


def test_batches_are_taken_ahead_but_not_all(
    fake: FakeCuda, graph: Path, pixels: np.ndarray
) -> None:
    fake.delays = {0: 0.01}
    taken = []

    def batches() -> Iterator[np.ndarray]:
        for index in range(20):
            taken.append(index)
            yield pixels[index : index + 1]

    answers = each(on_gpus(graph), batches())
    next(answers)
    assert 1 < len(taken) <= 2 * cuda.WORKERS_A_GPU
    assert len([*answers]) == 19


def test_an_error_while_batches_are_made_is_raised(
    fake: FakeCuda, graph: Path, pixels: np.ndarray
) -> None:
    def batches() -> Iterator[np.ndarray]:
        yield pixels[:1]
        raise bareclip.ImageError("broken")

    with pytest.raises(bareclip.ImageError, match="broken"):
        [*each(on_gpus(graph), batches())]


def test_out_of_memory_halves_a_batch_once(
    fake: FakeCuda, graph: Path, pixels: np.ndarray, wanted: np.ndarray
) -> None:
    tower = on_gpus(graph)
    fake.largest = 16
    close(tower.run(pixels[:21]), wanted[:21])
    assert [run.shape[0] for run in fake.runs] == [32, 16, 16]
    fake.runs.clear()
    with pytest.raises(
        bareclip.DeviceError,
        match=r"not hold a batch of 40, nor half of it \(.*Failed to allocate.*raise gpu_mem_limit",
    ):
        tower.run(pixels)
    assert [run.shape[0] for run in fake.runs] == [64, 32]
    fake.largest = 0
    with pytest.raises(bareclip.DeviceError, match="a batch of 1, nor half"):
        tower.run(pixels[:1])
    fake.largest = 99
    close(tower.run(pixels), wanted)  # and it goes on


def test_another_failure_is_not_retried(fake: FakeCuda, half_texts: Path) -> None:
    tower = on_gpus(half_texts)
    with pytest.raises(bareclip.BareclipError, match=r"failed on inputs of .*'enable_cuda_graph'"):
        tower.run(np.full((4, 4), 10**6))
    assert len(fake.runs) == 1


def test_what_cannot_be_captured_runs_all_the_same(
    fake: FakeCuda, graph: Path, pixels: np.ndarray, wanted: np.ndarray
) -> None:
    fake.refuses = {"enable_cuda_graph": "This session cannot use the graph capture feature"}
    tower = on_gpus(graph)
    assert not tower.captures
    for _ in range(2):
        close(tower.run(pixels[:2]), wanted[:2])
    assert {run.how for run in fake.runs} == {"run"}
    with pytest.raises(bareclip.DeviceError, match="cannot use the graph capture feature"):
        on_gpus(graph, enable_cuda_graph="1")


def test_cuda_graphs_can_be_left_out(fake: FakeCuda, graph: Path, pixels: np.ndarray) -> None:
    tower = on_gpus(graph, enable_cuda_graph="0")
    tower.run(pixels[:1])
    tower.run(pixels[:1])
    assert not tower.captures
    assert [run.how for run in fake.runs] == ["run", "run"]


def test_a_clip_on_gpus_answers_as_on_the_cpu(
    fake: FakeCuda, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_encoder, "CUDA_IMAGE_BATCH", 4)
    monkeypatch.setattr(text_encoder, "CUDA_TEXT_BATCH", 4)
    images, texts = list(batch(48, 23)), ["cat", "dog " * 9, "", "a red circle", "fish"] * 3
    right = bareclip.load(bundles["tiny"], device="cpu")
    clip = bareclip.load(bundles["tiny"], device="cuda:1,0", provider_options={"use_tf32": True})
    assert clip.device == "cuda:1,0"
    np.testing.assert_allclose(clip.embed_images(images), right.embed_images(images), atol=1e-6)
    np.testing.assert_allclose(clip.embed_texts(texts), right.embed_texts(texts), atol=1e-6)
    partial = clip.embed_images([images[0], b"no image", images[1]], on_error="skip")
    assert (partial.kept, len(partial.failures)) == ([0, 2], 1)
    assert {options["use_tf32"] for options in fake.options} == {"1"}
    assert {run.gpu for run in fake.runs} == {0, 1}
    assert max(run.shape[0] for run in fake.runs) == 4
    assert clip.embed_images([]).shape == (0, 20)


def test_auto_takes_a_gpu_that_starts_and_warns_of_one_that_does_not(
    fake: FakeCuda, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver("580.65", (13, 0), ("A100", "A100"), 0)
    for module in (devices, installations):
        monkeypatch.setattr(module, "find_driver", lambda: driver)
    assert bareclip.load(bundles["tiny"], device="auto").device == "cuda:0"
    fake.starts = False
    clip = bareclip.load(bundles["tiny"], device="auto")
    with pytest.warns(RuntimeWarning, match="did not start.*vision tower runs on the CPU"):
        assert clip.device == "cpu"
    with pytest.raises(bareclip.DeviceError, match="did not start, ONNX Runtime fell back"):
        bareclip.load(bundles["tiny"], device="cuda", preload=True)
    monkeypatch.setattr(devices, "find_driver", lambda: None)
    assert bareclip.load(bundles["tiny"], device="auto").device == "cpu"  # and no warning


def test_bench_goes_on_where_a_gpu_does_not_start(
    fake: FakeCuda, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver("580.65", (13, 0), ("A100",), 0)
    for module in (devices, installations):
        monkeypatch.setattr(module, "find_driver", lambda: driver)
    fake.starts = False
    with pytest.warns(RuntimeWarning, match="did not start.*not measured there"):
        report = speed.run(Bundle.read(bundles["tiny"]), seconds=0.001)
    assert [case.device for case in report.cases] == ["cpu"]


def test_fp16_is_measured_on_the_cpu_where_a_gpu_does_not_start(
    fake: FakeCuda, precise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", minversion="1.20")  # as fp16's texts do
    driver = Driver("580.65", (13, 0), ("A100",), 0)
    for module in (devices, installations):
        monkeypatch.setattr(module, "find_driver", lambda: driver)
    fake.starts = False
    bundle = Bundle.read(precise)
    with pytest.warns(RuntimeWarning, match="did not start.*fp16 is measured on the CPU"):
        found = compare(bundle, "fp16", make_corpus(bundle, []))
    assert found.towers["vision"].mean_cosine > 0.999


def test_a_forked_child_gets_an_error(fake: FakeCuda, graph: Path, pixels: np.ndarray) -> None:
    tower = on_gpus(graph)
    tower._process = -1  # as in a child, where the workers do not exist
    for call in (lambda: tower.run(pixels[:1]), lambda: [*each(tower, [pixels[:1]])]):
        with pytest.raises(bareclip.DeviceError, match="loaded before the process forked"):
            call()


def test_workers_end_with_their_tower(fake: FakeCuda, graph: Path, pixels: np.ndarray) -> None:
    before = threading.active_count()
    tower = on_gpus(graph)
    [*each(tower, [pixels[:1], pixels[:1]])]
    started = [t for t in threading.enumerate() if t.name.startswith("bareclip-cuda")]
    assert started
    del tower
    for thread in started:
        thread.join(timeout=10)
    assert threading.active_count() <= before

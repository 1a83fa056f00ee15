import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

import bareclip
from bareclip.inference.device import Device
from bareclip.inference.installation import CPU, CUDA
from bareclip.inference.session import Tower
from tests.machine import needs_posix


def test_a_tower_says_where_it_runs(clip: bareclip.Clip) -> None:
    assert clip.device == "cpu"
    assert "device='cpu'" in repr(clip)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:0,", "CPU", None])
def test_an_unknown_device(bundles: dict[str, Path], device: str) -> None:
    with pytest.raises(bareclip.DeviceError, match=f"device {device!r} is unknown; it is 'auto'"):
        bareclip.load(bundles["tiny"], device=device)


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="CUDA is there to be had")
def test_cuda_that_cannot_be_had_is_an_error_and_auto_is_not(bundles: dict[str, Path]) -> None:
    with pytest.raises(bareclip.DeviceError, match=r"'cuda:1' cannot be had: .*bareclip\[gpu"):
        bareclip.load(bundles["tiny"], device="cuda:1")
    assert bareclip.load(bundles["tiny"], device="auto").device == "cpu"


def test_a_provider_that_onnx_runtime_drops_in_silence(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package has the provider, but it fails to start: ONNX Runtime makes a session
    # on the CPU and raises nothing.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(Device, "providers", lambda self: [CPU])
    with pytest.raises(
        bareclip.DeviceError, match="'cuda:0' did not start, .*fell back to the CPU"
    ):
        bareclip.load(bundles["tiny"], device="cuda", preload=True)


def test_cuda_keeps_fp32_products_whole_and_its_memory_small() -> None:
    provider, options = Device("cuda:1", required=True).providers()[0]
    assert provider == CUDA
    assert options == {
        "device_id": "1",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }


def test_provider_options_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    given = {"use_tf32": True, "gpu_mem_limit": 2**31}
    device = Device.parse("cuda:2", given)
    _, options = device.providers()[0]
    assert (options["use_tf32"], options["gpu_mem_limit"]) == ("1", "2147483648")
    assert options["device_id"] == "2"
    with pytest.raises(
        bareclip.DeviceError, match=r"\['use_tf32'\] are for CUDA, and device is 'c"
    ):
        Device.parse("cpu", {"use_tf32": 1})
    with pytest.raises(bareclip.DeviceError, match="device_id; say device='cuda:N' instead"):
        Device.parse("cuda", {"device_id": 1})


def test_several_gpus_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    assert Device.parse("cuda:2,0").gpus == [2, 0]
    assert Device.parse("cuda").gpus == [0]
    assert Device.parse("cpu").gpus == []
    with pytest.raises(bareclip.DeviceError, match="'cuda:1,1' names a GPU twice"):
        Device.parse("cuda:1,1")


def test_without_onnx_runtime_the_extra_is_named(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        bareclip.DeviceError, match=r"not installed .*pip install 'bareclip\[cpu\]'"
    ):
        bareclip.load(bundles["tiny"])


def test_an_emptied_onnx_runtime_folder_is_explained(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(onnxruntime, "InferenceSession")
    with pytest.raises(bareclip.DeviceError, match="folder is empty, .*pip uninstall"):
        bareclip.load(bundles["tiny"])


def test_threads_are_counted_unless_given(bundles: dict[str, Path]) -> None:
    assert bareclip.load(bundles["tiny"], threads=3).threads == 3
    assert bareclip.load(bundles["tiny"]).threads <= len(os.sched_getaffinity(0))
    for wrong in (0, 100_000, 1.5):
        with pytest.raises(bareclip.BareclipError, match=f"threads is {wrong}; it must be 1 to"):
            bareclip.load(bundles["tiny"], threads=wrong)  # type: ignore[arg-type]


def test_waiting_threads_sleep_unless_told_to_spin(bundles: dict[str, Path]) -> None:
    def spins(**options: bool) -> str:
        session = bareclip.load(bundles["tiny"], **options).texts._tower.get()._session
        found: str = session.get_session_options().get_session_config_entry(
            "session.intra_op.allow_spinning"
        )
        return found

    assert (spins(), spins(spinning=True)) == ("0", "1")


def test_threads_of_an_int8_tower_sleep_after_a_moment(precise: Path) -> None:
    pytest.importorskip("onnxruntime", minversion="1.22")  # which int8 needs

    def waits(spinning: bool) -> tuple[str, ...]:
        clip = bareclip.load(precise, precision="int8", spinning=spinning)
        settings = clip.texts._tower.get()._session.get_session_options()
        found = []
        for name in ("allow_spinning", "spin_duration_us"):
            try:
                found.append(settings.get_session_config_entry(f"session.intra_op.{name}"))
            except RuntimeError:  # it was not set
                found.append("")
        return tuple(found)

    known = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 26)
    assert waits(spinning=False) == (("1", "100") if known else ("0", ""))
    assert waits(spinning=True) == ("1", "")


def _embed_in_child(clip: bareclip.Clip, queue: "multiprocessing.Queue[str]") -> None:
    try:
        clip.embed_texts(["cat"])
        queue.put("no error")
    except bareclip.DeviceError as error:
        queue.put(str(error))


@needs_posix
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking is what is tested
def test_a_forked_child_gets_an_error_and_does_not_hang(clip: bareclip.Clip) -> None:
    clip.preload()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_embed_in_child, args=(clip, queue))
    child.start()
    message = queue.get(timeout=30)
    child.join(timeout=30)
    assert "loaded before the process forked; call bareclip.load in the child" in message


def test_a_vector_never_depends_on_its_batch(clip: bareclip.Clip) -> None:
    from tests.variants import batch

    pixels = batch(32, 33)
    together = clip.embed_images(list(pixels))
    for size in (1, 2, 7, 32):
        for start in range(0, 33, size):
            alone = clip.embed_images(list(pixels[start : start + size]))
            np.testing.assert_allclose(alone, together[start : start + size], atol=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("what", ["replace", "delete", "exit", "refuse"])
def test_a_forked_child_ends(bundles: dict[str, Path], what: str) -> None:
    code = (
        "import os, signal, sys, bareclip\n"
        "path, what = sys.argv[1:]\n"
        "clip = bareclip.load(path, threads=2, preload=True)\n"
        "clip.embed_texts(['a cat'])\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(20)\n"
        "    if what == 'replace':\n"
        "        clip = bareclip.load(path, threads=2)\n"
        "        print(clip.embed_texts(['a cat']).shape)\n"
        "    if what == 'delete':\n"
        "        del clip\n"
        "    if what == 'refuse':\n"
        "        try:\n"
        "            next(clip.texts.stream(['a cat']))\n"
        "        except bareclip.DeviceError as error:\n"
        "            print(error)\n"
        "    sys.exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "print(clip.embed_texts(['a cat']).shape)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(bundles["tiny"]), what]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.endswith("7\n(1, 20)\n")
    first = {"replace": "(1, 20)", "refuse": "this Clip was loaded before the process forked; call"}
    assert told.startswith(first.get(what, "7"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_ends_whose_parent_has_several_gpus(bundles: dict[str, Path]) -> None:
    # On the CPU, whose sessions have threads too.
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from bareclip.inference.cuda import CudaTower\n"
        "from bareclip.inference.device import Device\n"
        "from bareclip.inference.session import make_session\n"
        "from bareclip.inference.threads import Threads\n"
        "cpu = Device('cpu', required=True)\n"
        "two = [make_session(Path(sys.argv[1]), cpu, Threads(2)) for _ in range(2)]\n"
        "tower = CudaTower(two, [('cpu', 0)] * 2, 'cpu', captures=False)\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(10)\n"
        "    del two, tower\n"
        "    sys.exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    graph = bundles["tiny"] / "fp32" / "vision.onnx"
    command = [sys.executable, "-W", "ignore", "-c", code, str(graph)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told == "7\n"


_WORKERS = """
import multiprocessing, sys
import bareclip

if __name__ == "__main__":
    clip = bareclip.load(sys.argv[1], threads=1, preload=True)
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        found = pool.map(clip.embed_texts, [["a cat"]] * 4)
        pool.close()
        pool.join()
    print(all((vectors == clip.embed_texts(["a cat"])).all() for vectors in found))
"""


@pytest.mark.parametrize("how", sorted({*multiprocessing.get_all_start_methods()} - {"fork"}))
def test_a_loaded_clip_goes_to_workers(bundles: dict[str, Path], tmp_path: Path, how: str) -> None:
    script = tmp_path / "workers.py"
    script.write_text(_WORKERS, encoding="utf-8")
    command = [sys.executable, str(script), str(bundles["tiny"]), how]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert told == "True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_pool_of_forked_workers_ends(bundles: dict[str, Path]) -> None:
    code = (
        "import multiprocessing, sys, bareclip\n"
        "def work(path):\n"
        "    return bareclip.load(path).embed_texts(['a cat']).shape\n"
        "clip = bareclip.load(sys.argv[1], preload=True)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(pool.map(work, [sys.argv[1]] * 4))\n"
        "    pool.close()\n"
        "    pool.join()\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(bundles["tiny"])]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == f"{[(1, 20)] * 4}\n"


def test_nothing_is_left_in_a_fresh_home(bundles: dict[str, Path], tmp_path: Path) -> None:
    code = (
        "import sys, bareclip\n"
        "clip = bareclip.load(sys.argv[1])\n"
        "clip.embed_texts(['a cat'])\n"
        "print(__import__('os').environ['ORT_DISABLE_TELEMETRY'])\n"
    )
    kept = {name: v for name, v in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for said, wanted in (({}, "1\n"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0\n")):
        home = tmp_path / f"home{len(said)}"
        home.mkdir()
        own = {"HOME": str(home), "USERPROFILE": str(home), "BARECLIP_CACHE": "off"}
        command = [sys.executable, "-c", code, str(bundles["tiny"])]
        found = subprocess.run(
            command, capture_output=True, text=True, check=True, env=kept | own | said
        )
        assert found.stdout == wanted
        if not said:
            assert [*home.rglob("*")] == []


class _Session:
    """ONNX Runtime's session, and answers of somebody's making."""

    def __init__(self, answer: np.ndarray) -> None:
        self.answer = answer

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="ids", shape=["n", "t"])]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="vectors", shape=["n", 3], type="tensor(float)")]

    def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [self.answer]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (np.full((2, 3), np.nan), "not finite, or not of length 1"),
        (np.full((2, 3), np.inf), "not finite, or not of length 1"),
        (np.full((2, 3), 1e30), "not finite, or not of length 1"),
        (np.zeros((2, 3)), "not finite, or not of length 1"),
        (np.eye(3)[:1], r"\(1, 3\) where \(2, 3\) is right"),
        (np.eye(3), r"\(3, 3\) where \(2, 3\) is right"),
        (np.ones((2, 1)), r"\(2, 1\) where \(2, 3\) is right"),
        (np.ones(2), r"\(2,\) where \(2, 3\) is right"),
    ],
)
def test_what_a_graph_answers_is_checked(answer: np.ndarray, wrong: str) -> None:
    tower = Tower(_Session(answer.astype(np.float32)), "cpu")
    tower.check("text.onnx", [[None, None]], 3)
    with pytest.raises(bareclip.BareclipError, match=f"the tower answered with .*{wrong}"):
        tower.run(np.zeros((2, 4), np.int64))


def test_a_graph_that_gives_no_floats_is_refused() -> None:
    session = _Session(np.eye(3))
    outputs = [SimpleNamespace(name="vectors", shape=["n", 3], type="tensor(double)")]
    session.get_outputs = lambda: outputs  # type: ignore[method-assign]
    with pytest.raises(bareclip.BundleError, match=r"gives tensor\(double\), where vectors are"):
        Tower(session, "cpu").check("text.onnx", [[None, None]], 3)

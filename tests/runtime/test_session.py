import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import bareclip
from bareclip.inference.device import Device
from bareclip.inference.installation import CPU, CUDA


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


def _embed_in_child(clip: bareclip.Clip, queue: "multiprocessing.Queue[str]") -> None:
    try:
        clip.embed_texts(["cat"])
        queue.put("no error")
    except bareclip.DeviceError as error:
        queue.put(str(error))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking is what is tested
def test_a_forked_child_gets_an_error_and_does_not_hang(clip: bareclip.Clip) -> None:
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

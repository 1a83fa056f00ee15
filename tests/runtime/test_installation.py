"""What is said of an installation that CUDA cannot use, and of one that it can."""

import ctypes
import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from click.testing import CliRunner

import bareclip
from bareclip.cli.info import info
from bareclip.inference import installation as module
from bareclip.inference.installation import (
    CPU,
    CUDA,
    Driver,
    Installation,
    find_driver,
    load_libraries,
)

GPU_PACKAGE = {"onnxruntime-gpu": "1.31.1"}
DRIVER = Driver("580.65.06", (13, 0), ("NVIDIA A100", "NVIDIA T4"), 0)


def installed(**changes: Any) -> Installation:
    facts: dict[str, Any] = {
        "packages": GPU_PACKAGE,
        "providers": [CUDA, CPU],
        "cuda": "13.0",
        "driver": DRIVER,
        "missing": [],
    }
    return Installation(**facts | changes)


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert installed().obstacles([0, 1]) == []
    newer = Driver("590.1", (13, 2), ("GPU",), 0)
    assert installed(driver=newer).obstacles() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"packages": {"onnxruntime": "1.32.0"}, "providers": [CPU], "cuda": ""},
            "onnxruntime 1.32.0 has no CUDA, it offers CPUExecutionProvider: pip uninstall "
            "onnxruntime onnxruntime-gpu, then pip install 'bareclip[gpu]'",
        ),
        (
            {"packages": {"onnxruntime": "1.32.0"} | GPU_PACKAGE},
            "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 share one folder, and the last "
            "installed won: pip uninstall onnxruntime onnxruntime-gpu, then",
        ),
        ({"driver": None}, "NVIDIA's driver is not loaded: install it, or start the container"),
        (
            {"driver": Driver("535.104.05", (12, 2), ("NVIDIA A100",), 0)},
            "the driver 535.104.05 runs CUDA 12.2 at most, and this ONNX Runtime needs 13.0: "
            "update the driver",
        ),
        ({"driver": Driver("580", (13, 0), (), 803)}, "CUDA does not start, with error 803"),
        ({"driver": Driver("580", (13, 0), (), 100)}, "sees no GPU with CUDA_VISIBLE_DEVICES='7'"),
        (
            {"driver": Driver("580", (13, 0), ("NVIDIA T4",), 0)},
            "there is no GPU 1, only 0 NVIDIA T4",
        ),
        (
            {"missing": ["libcudnn.so.9: cannot open shared object file"]},
            "libcudnn.so.9: cannot open shared object file: pip install 'bareclip[gpu]' brings",
        ),
    ],
)
def test_each_obstacle_has_its_remedy(
    changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    [found] = installed(**changes).obstacles([0, 1])
    assert words in found


class FakeDriverLibrary:
    """libcuda: fills in what it is given pointers to, and answers 0 for success."""

    def __init__(self, gpus: list[bytes], error: int = 0) -> None:
        self.gpus, self.error = gpus, error

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.error

    def cuDriverGetVersion(self, number: Any) -> int:  # noqa: N802
        number._obj.value = 12040
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGetName(self, name: Any, size: int, index: int) -> int:  # noqa: N802
        name.value = self.gpus[index][: size - 1]
        return 0


def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_driver_version", lambda: "550.54")
    library = FakeDriverLibrary([b"NVIDIA H100", b"NVIDIA L4"])
    monkeypatch.setattr(module, "_open_driver", lambda: library)
    assert find_driver() == Driver("550.54", (12, 4), ("NVIDIA H100", "NVIDIA L4"), 0)
    library.error = 100
    assert find_driver() == Driver("550.54", (12, 4), (), 100)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(module, "_open_driver", absent)
    assert find_driver() is None


def test_the_drivers_version_is_read(tmp_path: Path) -> None:
    told = tmp_path / "version"
    told.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
        "GCC version:  gcc version 12.3.0\n"
    )
    assert module._driver_version(told) == "535.104.05"
    assert module._driver_version(tmp_path / "none") is None


def test_libraries_that_do_not_load_are_told_and_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def preload() -> None:
        print("Failed to load /site-packages/nvidia/cu13/lib/libcublas.so.13: cut short")
        print("Failed to load libcudart.so.13: libcudart.so.13: cannot open shared object file")

    def load(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert load_libraries() == [
        "libcudart.so.13: cannot open shared object file",
        "libcudnn.so.9: cannot open shared object file",
    ]
    assert capsys.readouterr().out == ""
    for without in ({"cuda_version": ""}, {"cuda_version": "12.2", "preload_dlls": None}):
        for name, value in without.items():
            if value is None:
                monkeypatch.delattr(onnxruntime, name)
            else:
                monkeypatch.setattr(onnxruntime, name, value)
        assert load_libraries() == []


def told() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(CliRunner().invoke(info, ["--json"]).stdout)
    return facts


def test_info_diagnoses_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(module, "package_version", versions.get)
    monkeypatch.setattr(module, "find_driver", lambda: DRIVER)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    monkeypatch.setattr(module, "load_libraries", lambda: ["libcudnn.so.9: cannot open"])
    found = told()
    assert found["nvidia_driver"] == "580.65.06, runs CUDA 13.0 at most"
    assert found["gpus"] == "0 NVIDIA A100, 1 NVIDIA T4"
    assert "share one folder" in found["cuda"]
    assert "libcudnn.so.9: cannot open: pip install" in found["cuda"]
    monkeypatch.setattr(module, "load_libraries", list)
    versions.pop("onnxruntime")
    assert told()["cuda"] == "13.0, nothing is missing"
    monkeypatch.setattr(module, "find_driver", lambda: None)
    assert told()["gpus"] == "none"


def test_an_error_says_what_was_found(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    monkeypatch.setattr(module, "find_driver", lambda: DRIVER)
    with pytest.raises(
        bareclip.DeviceError,
        match=r"^device 'cuda:3' cannot be had: .*has no CUDA.*; there is no GPU 3, only 0 NVIDIA "
        r"A100, 1 NVIDIA T4; or use device='cpu'$",
    ):
        bareclip.load(bundles["tiny"], device="cuda:3")

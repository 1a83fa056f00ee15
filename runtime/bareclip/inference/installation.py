"""What is installed here: ONNX Runtime's packages, and what CUDA needs beside them.

It looks and explains, and starts no session.
"""

import contextlib
import ctypes
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DeviceError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
INSTALL_HINT = "pip install 'bareclip[cpu]', or 'bareclip[gpu]' for CUDA"

_BOTH = "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'bareclip[gpu]'"
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver, as CUDA sees it.

    Attributes:
        version: Such as ``"580.65.06"``; None where the system does not tell.
        cuda: The newest CUDA it runs: (major, minor).
        gpus: Names, in CUDA's order; ``CUDA_VISIBLE_DEVICES`` hides some.
        error: What CUDA answered when it was started, 0 where all is well.
    """

    version: str | None
    cuda: tuple[int, int]
    gpus: tuple[str, ...]
    error: int


@dataclass(frozen=True)
class Installation:
    """What a session on CUDA would find.

    Attributes:
        packages: Those of ONNX Runtime -> version.
        providers: What the imported one offers.
        cuda: The CUDA it was built for, such as ``"13.0"``; empty for none.
        driver: None where NVIDIA's is not loaded.
        missing: CUDA's libraries that do not load, in the loader's words.
    """

    packages: dict[str, str]
    providers: list[str]
    cuda: str
    driver: Driver | None
    missing: list[str]

    def obstacles(self, gpus: Sequence[int] = (0,)) -> list[str]:
        """Why CUDA cannot be had on these GPUs, each with its remedy; empty where it can."""
        found = []
        installed = " and ".join(f"{name} {v}" for name, v in self.packages.items())
        if len(self.packages) > 1:
            found.append(f"{installed} share one folder, and the last installed won: {_BOTH}")
        elif CUDA not in self.providers:
            found.append(
                f"{installed or 'this ONNX Runtime'} has no CUDA, it offers "
                f"{', '.join(self.providers)}: {_BOTH}"
            )
        found += self._of_driver(gpus)
        found += [
            f"{library}: pip install 'bareclip[gpu]' brings CUDA's libraries"
            for library in self.missing
        ]
        return found

    def _of_driver(self, gpus: Sequence[int]) -> list[str]:
        driver = self.driver
        if driver is None:
            return [
                "NVIDIA's driver is not loaded: install it, or start the container with --gpus all"
            ]
        if self.cuda and driver.cuda < _numbers(self.cuda)[:1]:
            return [
                f"the driver {driver.version or ''} runs CUDA {driver.cuda[0]}.{driver.cuda[1]} "
                f"at most, and this ONNX Runtime needs {self.cuda}: update the driver, or see "
                "docs/cuda.md for an ONNX Runtime that is older too"
            ]
        if driver.error not in (0, _NO_DEVICE):
            return [f"CUDA does not start, with error {driver.error}: look at nvidia-smi"]
        if not driver.gpus:
            hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
            why = "" if hidden is None else f" with CUDA_VISIBLE_DEVICES={hidden!r}"
            return [f"the driver sees no GPU{why}: look at nvidia-smi"]
        absent = [gpu for gpu in gpus if gpu >= len(driver.gpus)]
        if absent:
            seen = ", ".join(f"{index} {name}" for index, name in enumerate(driver.gpus))
            return [f"there is no GPU {', '.join(map(str, absent))}, only {seen}"]
        return []


def installation() -> Installation:
    """Looks at what is installed.

    Raises:
        DeviceError: ONNX Runtime is not installed, or its installation is broken.
    """
    ort = import_onnxruntime()
    names = ("onnxruntime", "onnxruntime-gpu")
    missing = load_libraries()
    return Installation(
        packages={name: v for name in names if (v := package_version(name))},
        providers=ort.get_available_providers(),
        cuda=getattr(ort, "cuda_version", ""),
        driver=find_driver(),
        missing=missing,
    )


def load_libraries() -> list[str]:
    """Loads the libraries of CUDA that pip installed, where ONNX Runtime looks for them.

    Returns:
        Those that it needs and that are nowhere, in the loader's words.
    """
    ort = import_onnxruntime()
    if not getattr(ort, "cuda_version", "") or not hasattr(ort, "preload_dlls"):
        return []  # a package without CUDA, or one before 1.21
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints, and standard output is the answer's
        ort.preload_dlls()
    # What is not in pip's folders is tried by name, so only names that fail are missing.
    failed = re.findall(r"^Failed to load ([^/\\:]+: .*)$", said.getvalue(), re.MULTILINE)
    cudnn = "cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9"
    try:
        ctypes.CDLL(cudnn)
    except OSError as error:  # preload_dlls says nothing of it
        failed.append(f"{cudnn}: {error}")
    return [_once(line) for line in failed]


def find_driver() -> Driver | None:
    """Asks the driver's own library, which is what CUDA will ask; None where there is none."""
    try:
        library = _open_driver()
    except OSError:
        return None
    number, count = ctypes.c_int(), ctypes.c_int()
    error = library.cuInit(0)
    library.cuDriverGetVersion(ctypes.byref(number))
    names = []
    if error == 0 and library.cuDeviceGetCount(ctypes.byref(count)) == 0:
        for index in range(count.value):
            name = ctypes.create_string_buffer(128)
            library.cuDeviceGetName(name, len(name), index)
            names.append(name.value.decode(errors="replace"))
    cuda = (number.value // 1000, number.value % 1000 // 10)
    return Driver(_driver_version(), cuda, tuple(names), error)


def _open_driver() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _driver_version(proc: Path = Path("/proc/driver/nvidia/version")) -> str | None:
    try:
        found = re.search(r"\b\d{3,}\.\d[\d.]*", proc.read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[0] if found else None


def _once(line: str) -> str:
    """Without a name that the loader repeats: ``libcudnn.so.9: libcudnn.so.9: cannot …``."""
    name, _, reason = line.partition(": ")
    return reason if reason.startswith(name) else line


def package_version(package: str) -> str | None:
    """A package's version, None where it is not installed."""
    # Imported here: it takes longer than the rest of this module, and loading needs it not.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_version(oldest: str, what: str) -> None:
    """Refuses a graph that the installed ONNX Runtime is too old for.

    Args:
        oldest: Such as ``"1.22"``.
        what: What messages call the graph.

    Raises:
        DeviceError: It is older.
    """
    if not installed_since(oldest):
        installed = import_onnxruntime().__version__
        raise DeviceError(
            f"{what} needs ONNX Runtime {oldest} or newer, and {installed} is installed: "
            "pip install -U onnxruntime, or use precision='fp32'"
        )


def installed_since(version: str) -> bool:
    """Whether the installed ONNX Runtime is of that version, such as ``"1.22"``, or newer."""
    return _numbers(import_onnxruntime().__version__) >= _numbers(version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        DeviceError: It is not installed, or its installation is broken.
    """
    # Since 1.29 it keeps a device's id and events in the user's home, and looks up a host to send
    # them to, unless this is set before it is imported. A user who sets it decides.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"ONNX Runtime is not installed ({error}): {INSTALL_HINT}") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        # Uninstalling one of its two packages leaves the other an empty folder.
        raise DeviceError(
            "ONNX Runtime's folder is empty, as after uninstalling one of two packages "
            f"that share it: pip uninstall onnxruntime onnxruntime-gpu, then {INSTALL_HINT}"
        )
    return onnxruntime

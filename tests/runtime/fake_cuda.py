"""ONNX Runtime with GPUs, as it documents itself, for machines that have none.

It takes the place of onnxruntime's own classes and no other. Numbers come from a real session
on the CPU. What it holds callers to, with ONNX Runtime's words where it has some:

- buffers have an address and a fixed size; update_inplace copies bytes whatever their type;
- a captured CUDA graph belongs to a session, a thread and a gpu_graph_id, and replays on the
  buffers it was captured with, whatever is bound when it is asked for;
- while a thread captures, any other that touches CUDA is an error;
- a batch over ``largest`` runs out of memory; a provider that fails is dropped in silence.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from bareclip.inference.installation import CPU, CUDA

RealSession = onnxruntime.InferenceSession


@dataclass
class Run:
    """One run, and how it went."""

    gpu: int
    shape: tuple[int, ...]
    thread: int
    how: str


@dataclass
class FakeCuda:
    """The machine.

    Attributes:
        starts: False for a provider that is dropped.
        refuses: Options -> the error that making a session with them raises.
        largest: A batch over it does not fit into memory.
        delays: GPU -> seconds that a run takes there.
    """

    starts: bool = True
    refuses: dict[str, str] = field(default_factory=dict)
    largest: int = 10**9
    delays: dict[int, float] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    options: list[dict[str, str]] = field(default_factory=list)
    buffers: int = 0
    uploaded: int = 0
    _capturing: int | None = None

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
        patch.setattr(onnxruntime, "InferenceSession", self._session)
        patch.setattr(onnxruntime, "OrtValue", _OrtValue)
        patch.setattr(_OrtValue, "cuda", self)

    def _session(
        self, path: str, options: Any, providers: list[Any], enable_fallback: int = 1
    ) -> Any:
        if providers == [CPU]:
            return RealSession(path, options, providers=providers)
        [(name, chosen), _] = providers
        assert name == CUDA
        self.touch()
        for option, message in self.refuses.items():
            if chosen.get(option) not in (None, "0"):
                assert not enable_fallback, "it would fall back to the CPU"
                raise RuntimeError(message)
        self.options.append(chosen)
        return _Session(self, RealSession(path, options, providers=[CPU]), chosen)

    def touch(self) -> None:
        """Any use of CUDA."""
        if self._capturing not in (None, threading.get_ident()):
            raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    @contextmanager
    def capture(self) -> Iterator[None]:
        self._capturing = threading.get_ident()
        time.sleep(0.01)  # long enough for others to come between
        yield
        self._capturing = None


class _OrtValue:
    cuda: FakeCuda = FakeCuda()

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    @classmethod
    def ortvalue_from_shape_and_type(
        cls, shape: Any, element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> "_OrtValue":
        assert device_type == "cuda"
        cls.cuda.touch()
        cls.cuda.buffers += 1
        return cls(np.zeros(shape, element_type))

    def update_inplace(self, data: NDArray[Any]) -> None:
        self.cuda.touch()
        if data.size != self.array.size:
            raise RuntimeError("The input size of numpy arrays does not match the OrtValue.")
        self.cuda.uploaded += data.nbytes
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1)[: self.array.nbytes]
        self.array[:] = raw.view(self.array.dtype).reshape(self.array.shape)

    def numpy(self) -> NDArray[Any]:
        self.cuda.touch()
        return self.array.copy()


class _Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, _OrtValue] = {}
        self.outputs: dict[str, _OrtValue] = {}

    def bind_ortvalue_input(self, name: str, value: _OrtValue) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: _OrtValue) -> None:
        self.outputs[name] = value


class _Session:
    def __init__(self, cuda: FakeCuda, real: Any, options: dict[str, str]) -> None:
        self._cuda, self._real = cuda, real
        self._gpu = int(options["device_id"])
        self._captures = options.get("enable_cuda_graph") == "1"
        self._graphs: dict[tuple[int, str], _Binding] = {}
        self.get_inputs, self.get_outputs = real.get_inputs, real.get_outputs
        self.get_modelmeta = real.get_modelmeta

    def get_providers(self) -> list[str]:
        return [CUDA, CPU] if self._cuda.starts else [CPU]

    def io_binding(self) -> _Binding:
        return _Binding()

    def run_with_iobinding(self, binding: _Binding, options: Any) -> None:
        self._cuda.touch()
        graph = options.get_run_config_entry("gpu_graph_id")
        key = (threading.get_ident(), graph)
        if not self._captures or graph == "-1":
            self._compute(binding, "run")
        elif key in self._graphs:
            self._compute(self._graphs[key], "replay")
        else:
            with self._cuda.capture():
                self._compute(binding, "capture")
            self._graphs[key] = binding

    def _compute(self, binding: _Binding, how: str) -> None:
        feeds = {name: value.array for name, value in binding.inputs.items()}
        shape = next(iter(feeds.values())).shape
        self._cuda.runs.append(Run(self._gpu, shape, threading.get_ident(), how))
        if shape[0] > self._cuda.largest:
            raise RuntimeError(
                "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for "
                f"requested buffer of size {np.prod(shape)}"
            )
        time.sleep(self._cuda.delays.get(self._gpu, 0))
        [(name, output)] = binding.outputs.items()
        output.array[:] = self._real.run([name], feeds)[0]

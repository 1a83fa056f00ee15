"""A tower in OpenVINO, which has kernels for bf16 and 8-bit integers that ONNX Runtime lacks.

It reads a bundle's own graphs. The package itself is used and not ONNX Runtime's provider for
it: the provider's wheels lack what reads a compiled model again, so that each process would
compile anew, and it leaves parts of int8 graphs to ONNX Runtime.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError
from .device import BF16, Device
from .graph_cache import Engine
from .session import keep_in_children
from .threads import Threads

_HINT = "INFERENCE_PRECISION_HINT"
_CONVERTER = "openvino.tools.ovc"
# What towers ask an input's or output's type by, as ONNX Runtime names it.
_TYPES = {"f32": "tensor(float)", "i64": "tensor(int64)", "u8": "tensor(uint8)"}


def engine(device: Device, precision: str) -> Engine:
    """What makes sessions in OpenVINO, and keeps compiled models.

    Args:
        device: Such as ``"openvino"``.
        precision: What is not 8-bit runs at bf16 where it is ``"bf16"``, else at fp32.

    Raises:
        DeviceError: OpenVINO is not installed, or sees no such device.
    """
    ov = import_openvino()
    _, _, part = device.name.partition(":")
    kind = part or "CPU"
    # Asking for all there are takes longer than loading a small tower.
    if kind != "CPU" and kind not in (found := openvino_devices()):
        raise DeviceError(
            f"device {device.name!r} cannot be had: OpenVINO {version()} sees "
            f"{', '.join(found)}; use device='openvino', which is the CPU"
        )
    hint = "bf16" if precision == BF16 else "f32"

    def properties(threads: Threads) -> dict[str, Any]:
        # Without a hint it takes bf16 wherever the processor has it.
        found: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", _HINT: hint}
        if kind == "CPU":
            # Else activations are rounded as it goes, and a vector depends on its batch.
            found |= {
                "INFERENCE_NUM_THREADS": threads.count,
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            }
        return found

    def make(graph: Path, threads: Threads, save_to: Path | None) -> OpenVinoSession:
        try:
            read = ov.Core().read_model(str(graph))
            _unpack(ov, read)
            model = ov.Core().compile_model(read, kind, properties(threads))
            if save_to is not None:
                save_to.write_bytes(model.export_model().getbuffer())
        except RuntimeError as error:
            raise DeviceError(
                f"OpenVINO {version()} cannot load {graph}: {_reason(error)}; use device='cpu'"
            ) from error
        return OpenVinoSession(model)

    def open_kept(kept: Path, threads: Threads) -> OpenVinoSession:
        # Written to by nobody, and mapped copy-on-write: OpenVINO takes no read-only memory.
        memory = np.memmap(kept, np.uint8, "c")
        blob = ov.Tensor(memory, shared_memory=True)
        try:
            model = ov.Core().import_model(blob, kind, properties(threads))
            return OpenVinoSession(model, (memory, blob))
        except RuntimeError as error:
            raise ValueError(_reason(error)) from error

    return Engine(f"OpenVINO {version()} {kind} {hint}", make, open_kept)


class OpenVinoSession:
    """A compiled model as ``Tower`` takes a session. May be used by many threads at once."""

    def __init__(self, model: Any, kept: Any = None) -> None:
        """Takes a model that is compiled.

        Args:
            model: Of one output.
            kept: Memory that it stands on, and does not keep by itself.
        """
        self._model = model
        # A request answers one run at a time; those that are done wait here.
        self._requests: SimpleQueue[Any] = SimpleQueue()
        self._kept = kept  # last, and so given back last
        keep_in_children(self)

    def get_inputs(self) -> "list[Port]":
        return [Port.of(port) for port in self._model.inputs]

    def get_outputs(self) -> "list[Port]":
        return [Port.of(port) for port in self._model.outputs]

    def run(self, _: Sequence[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Answers as ONNX Runtime's sessions do, all outputs."""
        try:
            request = self._requests.get_nowait()
        except Empty:
            request = self._model.create_infer_request()
        try:
            # An input that is not contiguous would be taken for one that is.
            given = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
            found = request.infer(given, share_inputs=True)
            return [found[0]]
        finally:
            self._requests.put(request)


@dataclass(frozen=True)
class Port:
    """An input or output: ``shape`` has None where a size varies."""

    name: str
    shape: list[int | None]
    type: str

    @classmethod
    def of(cls, port: Any) -> "Port":
        sizes = [None if n.is_dynamic else n.get_length() for n in port.partial_shape]
        kind = port.element_type.get_type_name()
        return cls(port.any_name, sizes, _TYPES.get(kind, kind))


def _unpack(ov: Any, model: Any) -> None:
    """Makes floats, in place, of weights that are in blocks of 8 bits.

    The kernel that multiplies by blocks sums in an order that depends on the batch: that moves
    the last bit, and rounding further on makes a whole step of it, 2e-5 in a vector.
    """
    products = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    packed = [node for node in products if _is_packed(node.input_value(1).get_node())]
    if not packed:
        return
    weights = [ov.opset13.result(node.input_value(1)) for node in packed]
    floats = ov.Core().compile_model(ov.Model(weights, []), "CPU", {_HINT: "f32"})([])
    for place, node in enumerate(packed):
        constant = ov.opset13.constant(floats[place])
        node.input(1).replace_source_output(constant.output(0))


def _is_packed(node: Any) -> bool:
    """Whether it is what OpenVINO makes of MatMulNBits' weights."""
    for name in ("Reshape", "Multiply", "Subtract", "Convert"):
        if node.get_type_name() != name:
            return False
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def import_openvino() -> Any:
    """The openvino module.

    Raises:
        DeviceError: It is not installed.
    """
    first = "openvino" not in sys.modules
    if first:
        # It would import its converter, which tells a host of it over the network, and takes
        # longer than all the rest. A program that wants it imports openvino.tools.ovc.
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise DeviceError(
            f"OpenVINO is not installed ({error}): pip install 'bareclip[openvino]', or use "
            "device='cpu'"
        ) from error
    finally:
        if first:
            sys.modules.pop(_CONVERTER, None)
    return openvino


def openvino_devices() -> list[str]:
    """Those that OpenVINO sees, such as ``["CPU"]``; raises as ``import_openvino`` does."""
    return [str(name) for name in import_openvino().Core().available_devices]


def version() -> str:
    """Such as ``"2026.4.1"``."""
    return str(import_openvino().__version__).partition("-")[0]


def _reason(error: Exception) -> str:
    """The last line of what it says: the first ones name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

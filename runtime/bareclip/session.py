"""One tower in ONNX Runtime: which device it runs on, with how many threads.

ONNX Runtime is imported when the first session is made, so that ``import bareclip``
works, and can say what to install, where it is missing.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import BareclipError, BundleError, DeviceError

if TYPE_CHECKING:
    import onnxruntime

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
INSTALL_HINT = "pip install 'bareclip[cpu]', or 'bareclip[gpu]' for CUDA"


@dataclass(frozen=True)
class Device:
    """Where sessions run.

    Attributes:
        name: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        required: False when ONNX Runtime may land on the CPU instead (``"auto"``).
    """

    name: str
    required: bool

    @classmethod
    def parse(cls, requested: str) -> "Device":
        """Checks a device name against what the installed ONNX Runtime offers.

        Args:
            requested: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

        Raises:
            DeviceError: An unknown name, no ONNX Runtime, or CUDA asked for where the
                installed package has none.
        """
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(requested)):
            raise DeviceError(
                f"device {requested!r} is unknown; it is 'auto', 'cpu', 'cuda' or 'cuda:N'"
            )
        available = import_onnxruntime().get_available_providers()
        if requested == "auto":
            return cls("cuda" if CUDA in available else "cpu", required=False)
        if requested.startswith("cuda") and CUDA not in available:
            raise DeviceError(
                f"device {requested!r} needs {CUDA}; the installed ONNX Runtime offers "
                f"{', '.join(available)}: pip uninstall onnxruntime, then "
                "pip install 'bareclip[gpu]', or use device='cpu'"
            )
        return cls(requested, required=True)

    @property
    def index(self) -> str:
        """Which GPU, as ONNX Runtime counts them."""
        return self.name.partition(":")[2] or "0"

    @property
    def on_cuda(self) -> bool:
        """Whether ONNX Runtime is asked for a GPU."""
        return self.name != "cpu"

    def check_precision(self, precision: str) -> None:
        """Refuses what would run, but slower than fp32 or not at all.

        Raises:
            DeviceError: fp16 on the CPU, or int8 on CUDA.
        """
        if precision == "fp16" and not self.on_cuda:
            raise DeviceError(
                "fp16 is for CUDA: a CPU computes it by way of fp32, slower than fp32 itself; "
                "use precision='fp32', or 'int8', which is faster"
            )
        if precision == "int8" and self.on_cuda:
            raise DeviceError(
                "int8 is for the CPU: ONNX Runtime's CUDA provider has no int8 products; "
                "use precision='fp16', or device='cpu'"
            )

    def providers(self) -> list[Any]:
        """What ONNX Runtime is asked for, first choice first."""
        if not self.on_cuda:
            return [CPU]
        # TF32 keeps 10 bits of a product: fp32 on CUDA would no longer be fp32.
        return [(CUDA, {"device_id": self.index, "use_tf32": "0"}), CPU]


class Tower:
    """A loaded tower: arrays in, unit vectors out. May be used by many threads at once.

    Attributes:
        device: ``"cpu"`` or ``"cuda:N"``, read back from the session that was made.
    """

    def __init__(self, session: "onnxruntime.InferenceSession", device: str) -> None:
        self.device = device
        self._session = session
        self._inputs = [value.name for value in session.get_inputs()]
        self._output = session.get_outputs()[0].name
        self._process = os.getpid()

    @classmethod
    def load(cls, graph: Path, device: Device, threads: int) -> "Tower":
        """Makes a session.

        Args:
            graph: The ``.onnx`` file; its weights lie beside it.
            device: Where to run.
            threads: For one operator; operators run one after another.

        Raises:
            BundleError: ONNX Runtime cannot load the graph.
            DeviceError: The session is not on the device that was required.
        """
        session = make_session(graph, device, threads)
        # A provider that fails to start is dropped without an error: look again.
        on_cuda = session.get_providers()[0] == CUDA
        if device.required and device.on_cuda and not on_cuda:
            raise DeviceError(
                f"device {device.name!r} did not start: ONNX Runtime fell back to the CPU; "
                "see its message above for the library that failed to load, "
                "or use device='cpu'"
            )
        return cls(session, f"cuda:{device.index}" if on_cuda else "cpu")

    def check(self, graph: str, inputs: Sequence[Sequence[int | None]], width: int) -> None:
        """Holds the graph to what its bundle says of it.

        Args:
            graph: What messages call it.
            inputs: The shape of each input; None where a size may vary.
            width: Of the vectors.

        Raises:
            BundleError: The graph takes or gives something else.
        """
        wanted = [list(shape) for shape in inputs] + [[None, width]]
        values = [*self._session.get_inputs(), self._session.get_outputs()[0]]
        found = [[n if isinstance(n, int) else None for n in value.shape] for value in values]
        if found != wanted:
            raise BundleError(
                f"{graph} takes and gives shapes {found}, where its bundle says {wanted} "
                "(None varies); export the bundle again"
            )

    def run(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Embeds a batch.

        Args:
            inputs: One array an input of the graph, batch first.

        Returns:
            (N, D) float32, unit rows.

        Raises:
            DeviceError: Called in a forked child of the process that loaded it.
            BareclipError: ONNX Runtime failed, for want of memory or because of an input.
        """
        if os.getpid() != self._process:
            # The session's thread pool does not exist in the child: run() would hang.
            raise DeviceError(
                "this Clip was loaded before the process forked; call bareclip.load in the "
                "child, or start workers with multiprocessing's 'spawn' method"
            )
        feeds = dict(zip(self._inputs, inputs, strict=True))
        try:
            vectors: NDArray[np.float32] = self._session.run([self._output], feeds)[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base but this one
            shapes = [value.shape for value in inputs]
            raise BareclipError(f"ONNX Runtime failed on inputs of {shapes}: {error}") from error
        return vectors


def make_session(
    graph: Path,
    device: Device,
    threads: int,
    *,
    optimize: bool = True,
    save_to: Path | None = None,
) -> "onnxruntime.InferenceSession":
    """A session as all of ours are; ``Tower.load`` checks where it landed.

    Args:
        graph: The ``.onnx`` file; its weights lie beside it.
        device: Where to run.
        threads: For one operator; operators run one after another.
        optimize: False for a graph that was saved optimised.
        save_to: Write the optimised graph, its weights packed for this CPU, to that file
            and to its name with ``.data``.

    Raises:
        BundleError: ONNX Runtime cannot load the graph.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the cores from image decoding and from neighbours:
    # on a shared host that was up to twice as slow.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if save_to is not None:
        options.log_severity_level = 3  # it would warn that the file is for this machine
        options.optimized_model_filepath = str(save_to)
        for key, value in (
            ("session.optimized_model_external_initializers_file_name", f"{save_to.name}.data"),
            ("session.optimized_model_external_initializers_min_size_in_bytes", "1024"),
            ("session.save_external_prepacked_constant_initializers", "1"),
        ):
            options.add_session_config_entry(key, value)
    if device.on_cuda and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    try:
        return ort.InferenceSession(str(graph), options, providers=device.providers())
    except Exception as error:  # ONNX Runtime's exceptions share no base but this one
        reason = str(error).splitlines()[0]
        raise BundleError(
            f"ONNX Runtime {ort.__version__} cannot load {graph}: {reason}"
        ) from error


def check_version(oldest: str, what: str) -> None:
    """Refuses a graph that the installed ONNX Runtime is too old for.

    Args:
        oldest: Such as ``"1.22"``.
        what: What messages call the graph.

    Raises:
        DeviceError: It is older.
    """
    installed = import_onnxruntime().__version__
    if _numbers(installed) < _numbers(oldest):
        raise DeviceError(
            f"{what} needs ONNX Runtime {oldest} or newer, and {installed} is installed: "
            "pip install -U onnxruntime, or use precision='fp32'"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:2]]


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        DeviceError: It is not installed, or its installation is broken.
    """
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

"""One tower in ONNX Runtime: which device it runs on, with how many threads.

ONNX Runtime is imported when the first session is made, so that ``import bareclip``
works, and can say what to install, where it is missing.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import BareclipError, BundleError, DeviceError
from .installation import CPU, CUDA, find_driver, import_onnxruntime, installation, load_libraries
from .threads import Threads

if TYPE_CHECKING:
    import onnxruntime

ProviderOption = str | int | float | bool


# What ONNX Runtime's CUDA provider is told unless the user says otherwise.
_CUDA_OPTIONS = {
    "use_tf32": "0",  # TF32 keeps 10 bits of a product: fp32 would no longer be fp32
    "cudnn_conv_algo_search": "HEURISTIC",  # the default searches anew for every batch size
    "arena_extend_strategy": "kSameAsRequested",  # the default doubles what it holds
}


@dataclass(frozen=True)
class Device:
    """Where sessions run.

    Attributes:
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"cuda:0,1"``.
        required: False when ONNX Runtime may land on the CPU instead (``"auto"``).
        options: For ONNX Runtime's CUDA provider, over ours.
    """

    name: str
    required: bool
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(
        cls, requested: str, provider_options: Mapping[str, ProviderOption] | None = None
    ) -> "Device":
        """Checks a device name against what the installed ONNX Runtime offers.

        Args:
            requested: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"cuda:N,M"``.
            provider_options: For ONNX Runtime's CUDA provider; no other takes any.

        Raises:
            DeviceError: An unknown name, no ONNX Runtime, options that cannot be, or CUDA
                asked for where the installed package has none.
        """
        if not re.fullmatch(r"auto|cpu|cuda(:\d+(,\d+)*)?", str(requested)):
            raise DeviceError(
                f"device {requested!r} is unknown; it is 'auto', 'cpu', 'cuda', 'cuda:N', or "
                "'cuda:N,M' for several GPUs"
            )
        options = _checked_options(requested, provider_options or {})
        if requested != "cpu":
            load_libraries()  # a package may offer CUDA only once they are loaded
        has_cuda = CUDA in import_onnxruntime().get_available_providers()
        if requested == "auto":
            driver = find_driver() if has_cuda else None
            return cls("cuda" if driver and driver.gpus else "cpu", False, options)
        device = cls(requested, True, options)
        if len(set(device.gpus)) < len(device.gpus):
            raise DeviceError(f"device {requested!r} names a GPU twice; name each once")
        if device.on_cuda and not has_cuda:
            raise device.failure("cannot be had")
        return device

    @property
    def gpus(self) -> list[int]:
        """Which GPUs, as CUDA counts them; none on the CPU."""
        numbers = self.name.partition(":")[2] or "0"
        return [int(number) for number in numbers.split(",")] if self.on_cuda else []

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
        """What ONNX Runtime is asked for, first choice first; the first GPU where several."""
        if not self.on_cuda:
            return [CPU]
        return [(CUDA, {"device_id": str(self.gpus[0])} | _CUDA_OPTIONS | dict(self.options)), CPU]

    def failure(self, what: str) -> DeviceError:
        """The error that says why CUDA cannot be had.

        Args:
            what: Went wrong, after the device's name.
        """
        found = installation().obstacles(self.gpus)
        why = "; ".join(found) or "nothing that it needs is missing; ONNX Runtime's own message"
        return DeviceError(f"device {self.name!r} {what}: {why}; or use device='cpu'")


def _checked_options(device: str, options: Mapping[str, ProviderOption]) -> dict[str, str]:
    if options and device == "cpu":
        raise DeviceError(
            f"provider_options {sorted(options)} are for CUDA, and device is 'cpu': leave them out"
        )
    if "device_id" in options:
        raise DeviceError("provider_options has device_id; say device='cuda:N' instead")
    # ONNX Runtime takes strings, and "1" for true.
    return {name: str(int(v) if isinstance(v, bool) else v) for name, v in options.items()}


class Tower:
    """A loaded tower: arrays in, unit vectors out. May be used by many threads at once.

    Attributes:
        device: ``"cpu"``, ``"cuda:N"`` or ``"cuda:N,M"``.
    """

    def __init__(self, session: "onnxruntime.InferenceSession", device: str) -> None:
        self.device = device
        self._session = session
        self._inputs = [value.name for value in session.get_inputs()]
        self._output = session.get_outputs()[0].name
        self._process = os.getpid()

    @classmethod
    def load(cls, graph: Path, device: Device, threads: Threads) -> "Tower":
        """Makes a session.

        Args:
            graph: The ``.onnx`` file; its weights lie beside it.
            device: Where to run.
            threads: On the CPU.

        Raises:
            BundleError: ONNX Runtime cannot load the graph.
        """
        return cls(make_session(graph, device, threads), device.name)

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
        self.check_process()
        feeds = dict(zip(self._inputs, inputs, strict=True))
        try:
            vectors: NDArray[np.float32] = self._session.run([self._output], feeds)[0]
        except Exception as error:  # ONNX Runtime's exceptions share no base but this one
            raise run_error(inputs, error) from error
        return vectors

    def map(self, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """Embeds batches in order, each as it comes; raises what ``run`` raises."""
        return map(self.run, batches)

    def check_process(self) -> None:
        """Refuses to work in a forked child.

        Raises:
            DeviceError: This is one, of the process that loaded the tower.
        """
        if os.getpid() != self._process:
            # The session's thread pool does not exist in the child: run() would hang.
            raise DeviceError(
                "this Clip was loaded before the process forked; call bareclip.load in the "
                "child, or start workers with multiprocessing's 'spawn' method"
            )


def run_error(inputs: Sequence[NDArray[Any]], error: Exception) -> BareclipError:
    """What ``run`` raises when ONNX Runtime does."""
    shapes = [value.shape for value in inputs]
    return BareclipError(f"ONNX Runtime failed on inputs of {shapes}: {error}")


def make_session(
    graph: Path,
    device: Device,
    threads: Threads,
    *,
    optimize: bool = True,
    save_to: Path | None = None,
) -> "onnxruntime.InferenceSession":
    """A session as all of ours are, on the device that was asked for.

    Args:
        graph: The ``.onnx`` file; its weights lie beside it.
        device: Where to run.
        threads: On the CPU.
        optimize: False for a graph that was saved optimised.
        save_to: Write the optimised graph, its weights packed for this CPU, to that file
            and to its name with ``.data``.

    Raises:
        BundleError: ONNX Runtime cannot load the graph.
        DeviceError: Nor can it on CUDA, or CUDA does not start.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads.count
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(threads.spinning)))
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
    # Else ONNX Runtime makes a session on the CPU where CUDA fails, and tells standard output.
    fallback = {"enable_fallback": 0} if device.on_cuda else {}
    try:
        session = ort.InferenceSession(
            str(graph), options, providers=device.providers(), **fallback
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base but this one
        reason = str(error).splitlines()[0]
        if device.on_cuda:
            raise device.failure(f"cannot load {graph} ({reason})") from error
        raise BundleError(
            f"ONNX Runtime {ort.__version__} cannot load {graph}: {reason}"
        ) from error
    # A provider that fails to start is dropped without an error: look again.
    if device.on_cuda and session.get_providers()[0] != CUDA:
        raise device.failure("did not start, ONNX Runtime fell back to the CPU")
    return session

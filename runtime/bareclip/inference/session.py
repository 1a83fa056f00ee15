"""One tower in ONNX Runtime, on a device, with so many threads.

ONNX Runtime is imported when the first session is made, so that ``import bareclip``
works, and can say what to install, where it is missing.
"""

import ctypes
import os
import weakref
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import BareclipError, BundleError, DeviceError
from .device import Device
from .installation import CUDA, import_onnxruntime, installed_since
from .threads import Threads

if TYPE_CHECKING:
    import onnxruntime


Tag = TypeVar("Tag")

# Since then spinning may be given an end; before, it goes on for milliseconds.
_SPIN_DURATION = "1.26"
# Half precision makes units that are this far off.
_LENGTH_TOLERANCE = 0.02
# Every session there is, for a child that is forked.
_SESSIONS: "weakref.WeakSet[Any]" = weakref.WeakSet()


def keep_in_children(session: Any) -> None:
    """Keeps a forked child from destroying a session of its parent's, which would never end.

    It waits for the session's threads, which the child does not have. The sessions' memory is
    the parent's, shared until it is written to.
    """
    _SESSIONS.add(session)


def _keep_sessions() -> None:
    for session in list(_SESSIONS):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_sessions)


class Tower:
    """A loaded tower: arrays in, unit vectors out. May be used by many threads at once.

    Attributes:
        device: ``"cpu"``, ``"cuda:N"`` or ``"cuda:N,M"``; or OpenVINO's.
    """

    def __init__(self, session: "onnxruntime.InferenceSession", device: str) -> None:
        self.device = device
        self._session = session
        self._inputs = [value.name for value in session.get_inputs()]
        self._output = session.get_outputs()[0].name
        batch = session.get_inputs()[0].shape[0]
        self._batch = batch if isinstance(batch, int) else None
        self._width: int | None = None
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
        wanted = [list(shape) for shape in inputs] + [[inputs[0][0], width]]
        values = [*self._session.get_inputs(), self._session.get_outputs()[0]]
        found = [[n if isinstance(n, int) else None for n in value.shape] for value in values]
        if found != wanted:
            raise BundleError(
                f"{graph} takes and gives shapes {found}, where its bundle says {wanted} "
                "(None varies); export the bundle again"
            )
        if values[-1].type != "tensor(float)":
            raise BundleError(
                f"{graph} gives {values[-1].type}, where vectors are tensor(float); "
                "export the bundle again"
            )
        self._width = width

    def run(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Embeds a batch; a graph of a fixed batch is run as often as that takes.

        Args:
            inputs: One array per input of the graph, batch first.

        Returns:
            (N, D) float32, unit rows.

        Raises:
            DeviceError: Called in a forked child of the process that loaded it.
            BareclipError: ONNX Runtime failed, for want of memory or because of an input.
        """
        self.check_process()
        try:
            vectors = self._answers(inputs)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this one
            raise run_error(inputs, error) from error
        return self.checked(vectors, len(inputs[0]))

    def _answers(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        if self._batch is None:
            return self._once(inputs)
        count = len(inputs[0])
        found = []
        for start in range(0, count, self._batch):
            part = [array[start : start + self._batch] for array in inputs]
            missing = self._batch - len(part[0])
            # The last row again: input like any other.
            part = [np.concatenate([rows, *[rows[-1:]] * missing]) for rows in part]
            found.append(self._once(part))
        none = np.empty((0, self._width or 0), np.float32)
        return np.concatenate(found)[:count] if found else none

    def _once(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        feeds = dict(zip(self._inputs, inputs, strict=True))
        vectors: NDArray[np.float32] = self._session.run([self._output], feeds)[0]
        return vectors

    def checked(self, vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """What a graph answered, held to what it has to be; a bundle's may be anything.

        Args:
            vectors: The answer.
            count: How many were asked about.

        Raises:
            BareclipError: Not one finite unit vector for each.
        """
        width = vectors.shape[1] if self._width is None and vectors.ndim == 2 else self._width
        if vectors.shape != (count, width):
            wrong = f"{vectors.shape} where {(count, width)} is right"
        else:
            lengths = np.einsum("nd,nd->n", vectors, vectors)
            # NaN is not near either.
            if (np.abs(lengths - 1) < _LENGTH_TOLERANCE).all():
                return vectors
            wrong = "vectors that are not finite, or not of length 1"
        raise BareclipError(
            f"the tower answered with {wrong}: its files are damaged, or not a tower's; see "
            "`bareclip verify`, or export the bundle again"
        )

    def map(
        self, batches: Iterable[tuple[Tag, NDArray[Any] | None]]
    ) -> Generator[tuple[Tag, NDArray[np.float32] | None]]:
        """Embeds batches in order, each as it comes.

        Args:
            batches: Each with a tag, which comes back with its vectors; None has none.

        Raises:
            DeviceError, BareclipError: As ``run`` does.
        """
        for tag, batch in batches:
            yield tag, None if batch is None else self.run(batch)

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
    patient = bool(threads.patience) and not threads.spinning and installed_since(_SPIN_DURATION)
    spinning = threads.spinning or patient
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    if patient:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(threads.patience))
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
    keep_in_children(session)
    # A provider that fails to start is dropped without an error: look again.
    if device.on_cuda and session.get_providers()[0] != CUDA:
        raise device.failure("did not start, ONNX Runtime fell back to the CPU")
    return session

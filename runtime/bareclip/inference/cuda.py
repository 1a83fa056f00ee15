"""A tower on NVIDIA GPUs: reused device buffers, CUDA graphs, several GPUs, work in order.

It moves bytes and schedules; what is computed is the graph's. It runs on any session that
ONNX Runtime can bind buffers to, the CPU's too, which is how most of it is tested.
"""

import re
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import BareclipError, DeviceError
from .device import Device
from .installation import import_onnxruntime
from .session import Tower, make_session, run_error
from .threads import Threads

Tag = TypeVar("Tag")
Vectors = NDArray[np.float32]

# Up to this batch, launching kernels one by one takes longer than they do.
LARGEST_CAPTURED = 8
# In a graph's metadata: inside, shapes depend on values, which a CUDA graph cannot replay.
NO_CAPTURE = "bareclip.no_capture"
# One uploads its batch while the other's is computed.
WORKERS_A_GPU = 2

# In the words of ONNX Runtime's arena, of CUDA, and of cuBLAS and cuDNN.
_OUT_OF_MEMORY = re.compile(
    r"failed to allocate|smaller than requested|out of memory|alloc_failed", re.IGNORECASE
)
_DTYPES = {
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}


class _Gate:
    """Lets many threads use CUDA at once, or one alone.

    ONNX Runtime captures in CUDA's global mode: an allocation or a copy by any other thread
    of the process, on whatever GPU, would spoil the capture.
    """

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._inside = threading.Condition()
        self._users = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._door, self._inside:
            self._users += 1
        try:
            yield
        finally:
            with self._inside:
                self._users -= 1
                self._inside.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._door, self._inside:
            self._inside.wait_for(lambda: self._users == 0)
            yield


_GATE = _Gate()


def load_tower(graph: Path, device: Device, threads: Threads) -> Tower:
    """A tower on whatever device, as ``Tower.load``; raises what ``make_session`` raises."""
    load = CudaTower.load if device.on_cuda else Tower.load
    return load(graph, device, threads)


class CudaTower(Tower):
    """A tower on one GPU or several, with buffers that stay where they are.

    A batch is filled up to a power of two, so that few shapes occur; each has buffers of its
    own and, where it is small, a CUDA graph. May be used by many threads at once.
    """

    def __init__(
        self,
        sessions: Sequence[Any],
        places: Sequence[tuple[str, int]],
        device: str,
        captures: bool,
    ) -> None:
        """Takes sessions of one graph that are ready.

        Args:
            sessions: One per GPU.
            places: Where each one's buffers go: ``("cuda", 1)``, or ``("cpu", 0)``.
            device: What all of them together are called.
            captures: Whether the sessions were made to capture CUDA graphs.
        """
        super().__init__(sessions[0], device)
        self.captures = captures
        self._counting = threading.Lock()
        # Each GPU once, then each again: a few batches spread over GPUs first.
        self._workers = [
            _Worker(session, place, captures, self._counting)
            for _ in range(WORKERS_A_GPU)
            for session, place in zip(sessions, places, strict=True)
        ]

    @classmethod
    def load(cls, graph: Path, device: Device, threads: Threads) -> "CudaTower":
        """Makes a session per GPU; or one on the CPU, which is used in the same way.

        Args:
            graph: The ``.onnx`` file; its weights lie beside it.
            device: Where to run.
            threads: For what runs on the CPU.

        Raises:
            BundleError, DeviceError: As ``make_session`` does.
        """
        each = [replace(device, name=f"cuda:{gpu}") for gpu in device.gpus] or [device]
        places = [("cuda", gpu) for gpu in device.gpus] or [("cpu", 0)]
        name = f"cuda:{','.join(map(str, device.gpus))}" if device.on_cuda else "cpu"
        asked = device.options.get("enable_cuda_graph")
        with _GATE.shared():
            if device.on_cuda and asked not in ("0", "false", "False"):
                on = {**device.options, "enable_cuda_graph": "1"}
                try:
                    sessions = [make_session(graph, replace(d, options=on), threads) for d in each]
                    about = sessions[0].get_modelmeta().custom_metadata_map
                    return cls(sessions, places, name, captures=NO_CAPTURE not in about)
                except DeviceError:
                    # A graph with an operator that CUDA lacks cannot be captured, yet it runs.
                    if asked is not None:
                        raise
            sessions = [make_session(graph, one, threads) for one in each]
            return cls(sessions, places, name, captures=False)

    def run(self, *inputs: NDArray[Any]) -> Vectors:
        """As ``Tower.run``.

        Raises:
            DeviceError: In a forked child; or the GPU's memory holds not even half the batch.
            BareclipError: ONNX Runtime failed.
        """
        return self.checked(self._submit(inputs).result(), len(inputs[0]))

    def map(
        self, batches: Iterable[tuple[Tag, NDArray[Any] | None]]
    ) -> Generator[tuple[Tag, Vectors | None]]:
        """As ``Tower.map``, on all GPUs, taking the next batches while some are computed."""
        waiting: deque[tuple[Tag, int, Future[Vectors] | None]] = deque()
        computed = 0

        def answered() -> tuple[Tag, Vectors | None]:
            tag, count, future = waiting.popleft()
            return tag, None if future is None else self.checked(future.result(), count)

        for tag, batch in batches:
            if batch is None:
                waiting.append((tag, 0, None))
            else:
                waiting.append((tag, len(batch), self._submit((batch,))))
                computed += 1
            # Two per worker: a slow GPU's answer, next in order, keeps no fast one idle.
            while waiting and (waiting[0][2] is None or computed == 2 * len(self._workers)):
                computed -= waiting[0][2] is not None
                yield answered()
        while waiting:
            yield answered()

    def _submit(self, inputs: Sequence[NDArray[Any]]) -> "Future[Vectors]":
        self.check_process()
        with self._counting:
            worker = min(self._workers, key=lambda worker: worker.waiting)
            worker.waiting += 1
        return worker.submit(inputs)


class _Worker:
    """A thread with buffers of its own on a GPU.

    ONNX Runtime keeps captured graphs by thread, so each worker runs all in one.
    """

    def __init__(
        self, session: Any, place: tuple[str, int], captures: bool, counting: threading.Lock
    ) -> None:
        self.waiting = 0
        self._session = session
        self._place = place
        self._captures = captures
        self._counting = counting
        self._buckets: dict[tuple[tuple[int, ...], ...], _Bucket] = {}
        self._graphs = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bareclip-cuda")

    def submit(self, inputs: Sequence[NDArray[Any]]) -> "Future[Vectors]":
        return self._thread.submit(self._answer, inputs)

    def _answer(self, inputs: Sequence[NDArray[Any]]) -> Vectors:
        try:
            return self._halving(inputs)
        finally:
            with self._counting:
                self.waiting -= 1

    def _halving(self, inputs: Sequence[NDArray[Any]]) -> Vectors:
        """Runs a batch; where memory runs out, its halves."""
        try:
            return self._run(inputs)
        except Exception as error:  # ONNX Runtime's exceptions share no base but this one
            reason = str(error)
            if not _OUT_OF_MEMORY.search(reason):
                raise self._failure(inputs, error) from error
        # Past the handler, which would keep what the failed run held.
        count = len(inputs[0])
        middle = (count + 1) // 2
        halves = [[array[:middle] for array in inputs], [array[middle:] for array in inputs]]
        try:
            if count > 1:
                return np.concatenate([self._run(half) for half in halves])
        except Exception as error:  # as above
            reason = str(error)
            if not _OUT_OF_MEMORY.search(reason):
                raise self._failure(inputs, error) from error
        raise DeviceError(
            f"the GPU's memory does not hold a batch of {count}, nor half of it ({reason}): free "
            "the GPU, raise gpu_mem_limit if provider_options sets it, or use device='cpu'"
        )

    def _failure(self, inputs: Sequence[NDArray[Any]], error: Exception) -> BareclipError:
        without = (
            "; without CUDA graphs: load(..., provider_options={'enable_cuda_graph': '0'})"
            if self._captures
            else ""
        )
        return BareclipError(f"{run_error(inputs, error)}{without}")

    def _run(self, inputs: Sequence[NDArray[Any]]) -> Vectors:
        size = bucket_size(len(inputs[0]))
        shapes = tuple((size, *array.shape[1:]) for array in inputs)
        # Out of the table while it runs: buffers of a run that failed are given back.
        bucket = self._buckets.pop(shapes, None)
        capturing = bucket is None and self._captures and size <= LARGEST_CAPTURED
        with _GATE.alone() if capturing else _GATE.shared():
            if bucket is None:
                self._graphs += capturing
                bucket = _Bucket(
                    self._session, self._place, shapes, self._graphs if capturing else -1
                )
            vectors = bucket.run(inputs)
        self._buckets[shapes] = bucket
        return vectors


def bucket_size(count: int) -> int:
    """The batch that ``count`` is filled up to: a power of two."""
    return 1 << max(count - 1, 0).bit_length()


class _Bucket:
    """Buffers of one shape, bound once; what a CUDA graph reads and writes."""

    def __init__(
        self,
        session: Any,
        place: tuple[str, int],
        shapes: Sequence[tuple[int, ...]],
        graph: int,
    ) -> None:
        """Makes the buffers.

        Args:
            session: Of one output.
            place: Where they go.
            shapes: One per input, batch first.
            graph: The number of the CUDA graph, from 1; -1 captures none.
        """
        ort = import_onnxruntime()
        make = ort.OrtValue.ortvalue_from_shape_and_type
        self._session = session
        self._binding = session.io_binding()
        self._inputs = []
        for value, shape in zip(session.get_inputs(), shapes, strict=True):
            buffer = make(shape, _DTYPES[value.type], *place)
            self._binding.bind_ortvalue_input(value.name, buffer)
            self._inputs.append((value.name, _DTYPES[value.type], shape[0], buffer))
        output = session.get_outputs()[0]
        width = output.shape[1]
        self._output = make((shapes[0][0], width), _DTYPES[output.type], *place)
        self._binding.bind_ortvalue_output(output.name, self._output)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph))

    def run(self, inputs: Sequence[NDArray[Any]]) -> Vectors:
        """(N, D) float32 of a batch of N, which is at most the buffers'."""
        for given, (name, dtype, size, buffer) in zip(inputs, self._inputs, strict=True):
            array = given
            if array.dtype != dtype:  # update_inplace would copy the bytes as they are
                raise TypeError(f"input {name} takes {dtype}, and was given {array.dtype}")
            if len(array) < size:
                # The last row again: input like any other, whatever a graph makes of zeros.
                missing = [(0, size - len(array)), *[(0, 0)] * (array.ndim - 1)]
                array = np.pad(array, missing, "edge")
            buffer.update_inplace(np.ascontiguousarray(array))
        self._session.run_with_iobinding(self._binding, self._options)
        # A copy: on the CPU this is a view of the buffer.
        return self._output.numpy()[: len(inputs[0])].astype(np.float32)

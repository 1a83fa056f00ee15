"""A bundle's towers: the precision each runs at, and loading one when it is first asked for."""

import logging
import os
import threading
import warnings
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..bundle.graph_file import check_graph
from ..errors import BareclipError, BundleError, DeviceError
from .cuda import load_tower
from .device import Device, stored
from .graph_cache import cached_session, onnxruntime_engine
from .installation import check_version
from .openvino import engine as openvino_engine
from .session import Tower
from .threads import Threads

Tag = TypeVar("Tag")

_log = logging.getLogger("bareclip")

# Microseconds: longer than there is between two operators.
_PATIENCE = 100


class LazyTower:
    """A tower of a bundle that is loaded when it is first asked for, once.

    May be used by many threads at once.

    Attributes:
        precision: What it runs at.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        precision: str | Mapping[str, str],
        device: Device,
        threads: Threads,
        cache: bool,
        any_precision: bool,
    ) -> None:
        """Chooses the precision, and makes sure of its files; loads nothing.

        Args:
            bundle: Has the tower.
            name: Of ``TOWERS``.
            precision: A name, ``"auto"``, or one per tower; one that is left out is ``"auto"``.
            device: Where to run.
            threads: The tower's.
            cache: Whether to keep a copy in the graph cache.
            any_precision: Whether one that is slower than fp32 on the device may be had.

        Raises:
            BundleError: The bundle has not that precision, or not its files whole.
            DeviceError: The device does not run it.
        """
        self._bundle = bundle
        self._name = name
        self._wanted = _wanted(bundle, name, precision)
        self._device = device
        self._given = threads
        self._cache = cache
        self._tower: Tower | None = None
        self._closed = False
        self._loading = threading.Lock()
        self._process = os.getpid()
        self._any_precision = any_precision
        self.precision = self._choose()

    @property
    def _threads(self) -> Threads:
        """An int8 tower's operators are short, and waking a thread takes as long as some do."""
        return replace(self._given, patience=_PATIENCE) if self.precision == "int8" else self._given

    @property
    def loaded(self) -> bool:
        """Whether it has been asked for."""
        return self._tower is not None

    @property
    def on_cuda(self) -> bool:
        """Whether it runs, or will, on a GPU."""
        return self._device.on_cuda

    @property
    def on_openvino(self) -> bool:
        """Whether OpenVINO runs it, and not ONNX Runtime."""
        return self._device.on_openvino

    @property
    def device(self) -> str:
        """Its name; where CUDA is wanted, the tower is loaded to know."""
        return self.get().device if self.on_cuda else self._device.name

    def get(self) -> Tower:
        """The tower, loaded by whoever comes first.

        Raises:
            BundleError: It is damaged, or answers otherwise than the bundle says.
            DeviceError: The device does not start, or this is a forked child.
            BareclipError: It was closed.
        """
        tower = self._tower
        if tower is None:
            with self._lock():
                if self._closed:
                    raise BareclipError("this Clip was closed; load the bundle again")
                tower = self._tower = self._tower or self._load()
        tower.check_process()
        return tower

    def map(
        self, batches: Iterable[tuple[Tag, NDArray[Any] | None]]
    ) -> Generator[tuple[Tag, NDArray[np.float32] | None]]:
        """As ``Tower.map``, loaded when the first batch is there."""
        waiting = iter(batches)
        for tag, batch in waiting:
            if batch is None:
                yield tag, None
            else:
                yield from self.get().map(chain([(tag, batch)], waiting))

    def check_process(self) -> None:
        """Refuses to work in a forked child, where it was loaded before.

        Raises:
            DeviceError: This is one.
        """
        if self._tower is not None:
            self._tower.check_process()

    def close(self) -> None:
        """Gives its memory back; work that is under way ends as it would have."""
        with self._lock():
            self._closed, self._tower = True, None

    def _lock(self) -> threading.Lock:
        if self._process != os.getpid():
            # Another thread of the parent may have held it when the process forked.
            self._loading, self._process = threading.Lock(), os.getpid()
        return self._loading

    def _load(self) -> Tower:
        try:
            return self._load_on(self._device)
        except DeviceError as error:
            if self._device.required or not self._device.on_cuda:
                raise
            warnings.warn(
                f"{error}: the {self._name} tower runs on the CPU", RuntimeWarning, stacklevel=2
            )
        self._device = Device("cpu", required=False)
        self.precision = self._choose()
        return self._load_on(self._device)

    def _choose(self) -> str:
        """The precision, which runs on the device, and whose files are there."""
        precision = self._chosen()
        self._bundle.require(stored(precision), self._name)
        return precision

    def _chosen(self) -> str:
        """The precision, which runs on the device."""
        bundle, device, wanted = self._bundle, self._device, self._wanted
        if wanted != "auto":
            bundle.tower(stored(wanted), self._name)
            device.check_bf16(wanted)
            if not self._any_precision:
                device.check_precision(wanted)
            return wanted
        order = ["fp32", "int8"]
        if not device.on_openvino:
            order = ["fp16", "fp32", "int4"] if device.on_cuda else ["fp32", "int8", "int4"]
        for precision in order:
            if self._name in bundle.precisions.get(precision, {}):
                return precision
        raise BundleError(
            f"{bundle.folder} has no {self._name} tower that runs on {device.name}; it has "
            f"{', '.join(bundle.precisions)}: export it again with --precision fp32"
        )

    def _load_on(self, device: Device) -> Tower:
        bundle = self._bundle
        if bundle.static_batch is not None and device.on_cuda:
            raise DeviceError(
                f"{bundle.folder} has graphs of fixed shapes, for compilers for phones and NPUs: "
                "use device='cpu', or export the checkpoint without --static"
            )
        files = bundle.tower(stored(self.precision), self._name)
        if device.on_openvino:
            engine = openvino_engine(device, self.precision)
        else:
            check_version(files.onnxruntime, str(bundle.folder / files.graph))
            engine = onnxruntime_engine()
        if self._cache and device.on_cpu:
            session, where = cached_session(bundle.folder, files, self._threads, engine)
            tower = Tower(session, device.name)
        else:
            check_graph(bundle.folder, files)
            where = bundle.folder / files.graph
            if device.on_openvino:
                tower = Tower(engine.make(where, self._threads, None), device.name)
            else:
                tower = load_tower(where, device, self._threads)
        tower.check(files.graph, [_shape(bundle, self._name)], bundle.embedding_dim)
        _log.info(
            "loaded the %s tower of %s at %s on %s, %d threads, from %s",
            self._name, bundle.name, self.precision, tower.device, self._threads.count, where,
        )  # fmt: skip
        return tower


def _shape(bundle: Bundle, tower: str) -> list[int | None]:
    """What its graph takes; None where a size varies."""
    batch = bundle.static_batch
    if tower == "vision":
        size = bundle.image_recipe().size
        return [batch, size, size, 3]
    text = bundle.text_recipe()
    return [batch, text.context_length if text.fixed_length else None]


def _wanted(bundle: Bundle, tower: str, precision: str | Mapping[str, str]) -> str:
    if isinstance(precision, str):
        return precision
    if not set(precision) <= set(bundle.towers):
        raise BundleError(
            f"precision {dict(precision)!r} must be a name, or name some of "
            f"{', '.join(bundle.towers)}, which is what {bundle.folder} has"
        )
    return precision.get(tower, "auto")

"""What both encoders have in common: how they run, and a tower that is loaded when asked for."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ..bundle import Bundle
from ..errors import BareclipError
from ..images.limits import MAX_PIXELS
from ..images.pixels import Reading
from ..inference.device import Device, ProviderOption
from ..inference.installation import import_onnxruntime
from ..inference.openvino import import_openvino
from ..inference.threads import Threads, checked_threads
from ..inference.towers import LazyTower

DType = Literal["float32", "float16"]
OnError = Literal["raise", "skip"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a bundle's encoders run; see ``bareclip.load``."""

    precision: str | Mapping[str, str] = "auto"
    device: str = "auto"
    threads: int | None = None
    reading: Reading = "as_seen"
    max_pixels: int = MAX_PIXELS
    cache: bool = True
    provider_options: Mapping[str, ProviderOption] | None = None
    spinning: bool = False
    language: str | None = None
    # For who measures: also a precision that is slower than fp32 on that device.
    any_precision: bool = False


class Encoder:
    """What both have in common: a tower that is loaded when it is first asked for.

    Attributes:
        width: Of a vector.
        threads: For one operator, and for decoding.
    """

    def __init__(self, bundle: Bundle, name: str, options: Options) -> None:
        self.width = bundle.embedding_dim
        self.threads = checked_threads(options.threads)
        self._tower = LazyTower(
            bundle,
            name,
            options.precision,
            Device.parse(options.device, options.provider_options),
            Threads(self.threads, options.spinning),
            options.cache,
            options.any_precision,
        )

    @property
    def precision(self) -> str:
        """What the tower runs at, such as ``"fp32"``."""
        return self._tower.precision

    @property
    def loaded(self) -> bool:
        """Whether the tower has been asked for."""
        return self._tower.loaded

    @property
    def on_cuda(self) -> bool:
        """Whether the tower runs, or will, on a GPU."""
        return self._tower.on_cuda

    @property
    def on_openvino(self) -> bool:
        """Whether OpenVINO runs the tower, and not ONNX Runtime."""
        return self._tower.on_openvino

    @property
    def device(self) -> str:
        """Its name; a tower on CUDA is loaded to know."""
        return self._tower.device

    def preload(self) -> None:
        """Loads the tower now, so that the first vectors do not wait for it.

        Raises:
            BundleError: It is damaged.
            DeviceError: The device does not start.
        """
        self._tower.get()

    def close(self) -> None:
        """Gives its memory and threads back; after that it embeds nothing."""
        self._tower.close()


def preload(encoders: Sequence[Encoder]) -> None:
    """Loads the towers of several encoders, at once where that is sooner.

    Raises:
        BundleError, DeviceError: As ``Encoder.preload`` does.
    """
    if any(encoder.on_cuda for encoder in encoders):
        for encoder in encoders:
            encoder.preload()
        return
    if encoders[0].on_openvino:
        import_openvino()
    else:
        import_onnxruntime()  # not in two threads at once
    with ThreadPoolExecutor(len(encoders)) as pool:
        for done in [pool.submit(encoder.preload) for encoder in encoders]:
            done.result()


def checked_dtype(dtype: DType, on_error: OnError) -> Any:
    if on_error not in get_args(OnError):
        raise BareclipError(f"on_error {on_error!r} is unknown; it is 'raise' or 'skip'")
    if dtype not in get_args(DType):
        raise BareclipError(f"dtype {dtype!r} is unknown; it is 'float32' or 'float16'")
    return np.dtype(dtype)


def checked_batch_size(batch_size: int | None) -> int | None:
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise BareclipError(f"batch_size is {batch_size!r}; it must be at least 1, or None")
    return batch_size

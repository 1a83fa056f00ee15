"""Where sessions run: a device's name, checked against what is installed here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import DeviceError
from .installation import CPU, CUDA, find_driver, import_onnxruntime, installation, load_libraries

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

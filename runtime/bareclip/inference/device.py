"""Where sessions run: a device's name, checked against what is installed here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from ..errors import DeviceError
from .installation import CPU, CUDA, find_driver, import_onnxruntime, installation, load_libraries
from .processor import BF16_PRODUCTS, computes_bf16, computes_fp16

ProviderOption = str | int | float | bool

# A precision that no bundle has: fp32's graphs, multiplied so by the processor.
BF16 = "bf16"

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
        name: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"cuda:0,1"``; ``"openvino"``, or such as
            ``"openvino:GPU"``.
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
            requested: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"cuda:N,M"``,
                ``"openvino"`` or ``"openvino:KIND"``.
            provider_options: For ONNX Runtime's CUDA provider; no other takes any.

        Raises:
            DeviceError: An unknown name, no ONNX Runtime, options that cannot be, or CUDA or
                OpenVINO asked for where what is installed has none.
        """
        names = r"auto|cpu|cuda(:\d+(,\d+)*)?|openvino(:[A-Z]+(\.\d+)?)?"
        if not re.fullmatch(names, str(requested)):
            raise DeviceError(
                f"device {requested!r} is unknown; it is 'auto', 'cpu', 'cuda', 'cuda:N', "
                "'cuda:N,M' for several GPUs, or 'openvino'"
            )
        options = _checked_options(requested, provider_options or {})
        if requested.startswith("openvino"):
            if find_spec("openvino") is None:
                raise DeviceError(
                    f"device {requested!r} cannot be had: OpenVINO is not installed: "
                    "pip install 'bareclip[openvino]', or use device='cpu'"
                )
            return cls(requested, True)
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
        return self.name.startswith("cuda")

    @property
    def on_openvino(self) -> bool:
        """Whether OpenVINO runs it, and not ONNX Runtime."""
        return self.name.startswith("openvino")

    @property
    def on_cpu(self) -> bool:
        """Whether the processor computes it, by whatever library."""
        return self.name in ("cpu", "openvino", "openvino:CPU")

    def check_precision(self, precision: str) -> None:
        """Refuses what would run, but slower than fp32 or not at all.

        Raises:
            DeviceError: fp16 on a CPU that does not compute it, int8 on CUDA, bf16 without
                OpenVINO or without instructions for it, or what is not tried on OpenVINO.
        """
        self.check_bf16(precision)
        if precision in ("fp16", "int4") and self.on_openvino:
            raise DeviceError(
                f"{precision} is not for OpenVINO: use precision='fp32', 'bf16' or 'int8', or "
                "another device"
            )
        if precision == "fp16" and not self.on_cuda and not computes_fp16():
            raise DeviceError(
                "fp16 is for CUDA, and for ARM processors with half precision (asimdhp): this CPU "
                "computes it by way of fp32, slower than fp32 itself; use precision='fp32', or "
                "'int8', which is faster"
            )
        if precision == "int8" and self.on_cuda:
            raise DeviceError(
                "int8 is for the CPU: ONNX Runtime's CUDA provider has no int8 products; "
                "use precision='fp16', or device='cpu'"
            )

    def check_bf16(self, precision: str) -> None:
        """Refuses bf16 where it would be something else.

        Raises:
            DeviceError: Not on OpenVINO; or the processor has no instructions for it, and
                OpenVINO would compute fp32 in its name.
        """
        if precision != BF16:
            return
        if not self.on_openvino:
            raise DeviceError(
                "bf16 is for OpenVINO: pip install 'bareclip[openvino]', then device='openvino'; "
                "or use precision='fp32'"
            )
        if self.on_cpu and not computes_bf16():
            raise DeviceError(
                "this processor has no instructions for bf16 (the system names none of "
                f"{', '.join(BF16_PRODUCTS)}): use precision='fp32' or 'int8'"
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


def stored(precision: str) -> str:
    """The precision whose files in a bundle a precision is made from."""
    return "fp32" if precision == BF16 else precision


def _checked_options(device: str, options: Mapping[str, ProviderOption]) -> dict[str, str]:
    if options and (device == "cpu" or device.startswith("openvino")):
        raise DeviceError(
            f"provider_options {sorted(options)} are for CUDA, and device is {device!r}: leave "
            "them out"
        )
    if "device_id" in options:
        raise DeviceError("provider_options has device_id; say device='cuda:N' instead")
    # ONNX Runtime takes strings, and "1" for true.
    return {name: str(int(v) if isinstance(v, bool) else v) for name, v in options.items()}

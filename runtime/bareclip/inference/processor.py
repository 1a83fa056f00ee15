"""Which of the processor's instructions matter to a precision."""

import platform
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# As Linux calls them: what int8 products, bf16 and half precision are computed by.
_MATTER = {
    "flags": (
        "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx_ne_convert",
        "amx_int8", "amx_bf16",
    ),
    "Features": ("asimdhp", "asimddp", "i8mm", "bf16", "sve"),
}  # fmt: skip
# Every Apple M has these (Apple, "Determining instruction set characteristics").
_APPLE = ("asimdhp", "asimddp")
HALF_PRECISION = "asimdhp"
BF16_PRODUCTS = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")


@cache
def instructions() -> tuple[str, ...] | None:
    """Those that this processor has, by Linux's names; None where the system does not say.

    Examples:
        >>> found = instructions()
        >>> found is None or isinstance(found, tuple)
        True
    """
    if (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        return _APPLE
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in _MATTER:
            having = set(value.split())
            return tuple(each for each in _MATTER[name.strip()] if each in having)
    return None


def computes_fp16() -> bool:
    """Whether half precision is computed as such: ARMv8.2 and later, and no x86 that we know."""
    return HALF_PRECISION in (instructions() or ())


def computes_bf16() -> bool:
    """Whether it multiplies bf16 as such; True where the system does not say."""
    having = instructions()
    return having is None or not set(having).isdisjoint(BF16_PRODUCTS)

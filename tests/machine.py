"""What this machine is, where answers depend on it to the last bit, and what only some have."""

import os
import platform
import sys
from pathlib import Path

import pytest

needs_posix = pytest.mark.skipif(
    os.name == "nt", reason="needs POSIX: its pipes, signals, permissions or names of files"
)
needs_any_name = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="names of files are Unicode there"
)
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def instructions() -> str:
    """The vector instructions of this CPU that ONNX Runtime's kernels are chosen by."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2]
    except OSError:
        return platform.machine()
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile")
    return " ".join(name for name in known if name in flags.partition("\n")[0].split())

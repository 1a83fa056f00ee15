"""Which instructions a processor has, and what fp16 then is."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

import bareclip
from bareclip.errors import DeviceError
from bareclip.inference import processor
from bareclip.inference.device import Device
from bareclip.measure import speed
from tests.runtime.test_cli import run

# Of a Raspberry Pi 4 and 5, and of an x86, as Linux writes them.
PI_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"
PI_5 = "processor\t: 0\nFeatures\t: fp asimd aes crc32 atomics fphp asimdhp asimdrdm asimddp\n"
NEW_ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp i8mm bf16\n"
ZEN_5 = "processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni avx512_bf16\n"
SKYLAKE = "processor\t: 0\nflags\t\t: fpu sse avx2 avx512f avx512bw\n"
XEON = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_int8 amx_bf16\nbugs\t\t: x\n"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file in the place of the system's."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "_CPUINFO", path)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    processor.instructions.cache_clear()
    yield path
    processor.instructions.cache_clear()


@pytest.mark.parametrize(
    ("text", "having"),
    [
        (PI_4, ()),
        (PI_5, ("asimdhp", "asimddp")),
        (XEON, ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")),
        ("processor : 0\n", None),
    ],
)
def test_instructions_are_those_the_system_names(
    told: Path, text: str, having: tuple[str, ...] | None
) -> None:
    told.write_text(text)
    assert processor.instructions() == having


def test_a_system_that_says_nothing(told: Path) -> None:
    assert processor.instructions() is None
    assert not processor.computes_fp16()


def test_fp16_is_allowed_where_the_processor_computes_it(told: Path, precise: Path) -> None:
    told.write_text(PI_4)
    with pytest.raises(DeviceError, match=r"for ARM processors with half precision \(asimdhp\)"):
        bareclip.load(precise, precision="fp16", device="cpu")
    processor.instructions.cache_clear()
    told.write_text(PI_5)
    clip = bareclip.load(precise, precision="fp16", device="cpu")
    assert clip.precision == {"vision": "fp16", "text": "fp16"}
    # Unless it is asked for, it is not taken: how fast it is there was not measured.
    assert bareclip.load(precise, device="cpu").precision == {"vision": "fp32", "text": "fp32"}


@pytest.mark.parametrize(
    ("text", "said"), [(XEON, "avx2, avx512f, avx512_vnni, amx_int8, amx_bf16"), ("", "unknown")]
)
def test_a_measurement_names_them(told: Path, text: str, said: str) -> None:
    told.write_text(text)
    assert speed.machine()["instructions"] == said


def test_info_names_them() -> None:
    assert "instructions" in run("info").stdout


@pytest.mark.parametrize(
    ("text", "has"), [(SKYLAKE, False), (PI_5, False), (ZEN_5, True), (XEON, True), (NEW_ARM, True)]
)
def test_bf16_is_for_processors_that_have_it(told: Path, text: str, has: bool) -> None:
    told.write_text(text)
    device = Device("openvino", required=True)
    if has:
        device.check_bf16("bf16")
    else:
        with pytest.raises(DeviceError, match="no instructions for bf16"):
            device.check_bf16("bf16")

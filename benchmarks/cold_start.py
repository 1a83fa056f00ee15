"""From nothing to the first vectors: time, memory, disk; and what further workers cost.

    python benchmarks/cold_start.py BUNDLE --photo photo.jpg --json cold.json
    python benchmarks/cold_start.py BUNDLE --photo photo.jpg --peer ENV/bin/python CHECKPOINT
    python benchmarks/cold_start.py BUNDLE --photo photo.jpg --openvino-python OV/bin/python

Processes take turns. ``cached`` is with the graph cache filled, as from the second
process on; ``first`` fills it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bareclip.bundle import Bundle
from bareclip.inference.device import stored
from bareclip.measure.speed import machine

TEXT = "a photo of a cat"
WORKERS = 4
ON_OPENVINO = ("fp32", "bf16", "int8")

OURS = """
import sys, bareclip
bundle, photo, text, precision, device, cache = sys.argv[1:]
clip = bareclip.load(
    bundle, preload=True, precision=precision, device=device, cache=cache == "True"
)
clip.embed_images([photo]); clip.embed_texts([text])
print("ready", flush=True); sys.stdin.readline()
"""

TRANSFORMERS = """
import sys, torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor
checkpoint, photo, text = sys.argv[1:]
model = CLIPModel.from_pretrained(checkpoint).eval()
processor = CLIPProcessor.from_pretrained(checkpoint)
with torch.inference_mode():
    images = processor(images=Image.open(photo).convert("RGB"), return_tensors="pt")
    model.get_image_features(**images)
    model.get_text_features(**processor(text=[text], return_tensors="pt"))
print("ready", flush=True); sys.stdin.readline()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "CHECKPOINT"))
    parser.add_argument(
        "--openvino-python",
        help="of an environment with bareclip[openvino], whose device is then measured too",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    photo = str(arguments.photo)
    bundle = Bundle.read(arguments.bundle)
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"BARECLIP_CACHE": cache, "OMP_WAIT_POLICY": "passive"}
        commands: dict[str, list[str]] = {}

        def ours(python: str, precision: str, device: str, cached: bool) -> list[str]:
            given = [str(arguments.bundle), photo, TEXT, precision, device, str(cached)]
            return [python, "-c", OURS, *given]

        for precision in (p for p in bundle.precisions if p != "fp16"):
            for name, cached in (("cached", True), ("not cached", False)):
                commands[f"{precision}, {name}"] = ours(sys.executable, precision, "cpu", cached)
        if (beside := arguments.openvino_python) is not None:
            for precision in (p for p in ON_OPENVINO if stored(p) in bundle.precisions):
                name = f"{precision}, openvino, cached"
                commands[name] = ours(beside, precision, "openvino", True)
        if arguments.peer:
            python, checkpoint = arguments.peer
            commands["transformers"] = [python, "-c", TRANSFORMERS, checkpoint, photo, TEXT]
        first = {
            name: round(started(command, environment)[0], 3)
            for name, command in commands.items()
            if name.endswith(", cached")
        }
        os.sync()  # a page that is still to be written counts as private
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        memory: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                took, used = started(command, environment)
                seconds[name].append(took)
                memory[name].append(used["peak"])
        report = {
            "machine": machine(),
            "bundle": bundle.name,
            "rounds": arguments.rounds,
            "environment_mb": _folder_size(Path(sys.prefix)) / 1e6,
            "first_seconds": first,
            "cases": {
                name: {
                    "seconds": median(seconds[name]),
                    "least": min(seconds[name]),
                    "most": max(seconds[name]),
                    "peak_mb": median(memory[name]),
                    "worker_mb": workers(command, environment),
                }
                for name, command in commands.items()
            },
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "| | s to first vectors | least to most | peak MB | private MB of each of 4 workers |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, case in report["cases"].items():
        lines.append(
            f"| {name} | {case['seconds']:.2f} | {case['least']:.2f} to {case['most']:.2f} | "
            f"{case['peak_mb']:.0f} | {', '.join(f'{mb:.0f}' for mb in case['worker_mb'])} |"
        )
    lines.append("")
    lines += [
        f"The first process, which fills the cache: {name[: -len(', cached')]} {seconds:.2f} s."
        for name, seconds in report["first_seconds"].items()
    ]
    return "\n".join(lines)


def started(command: list[str], environment: dict[str, str]) -> tuple[float, dict[str, float]]:
    """Seconds from starting a process to its first vectors, and its memory then."""
    begun = time.perf_counter()
    process = _start(command, environment)
    took = time.perf_counter() - begun
    used = _memory(process.pid)
    _end(process)
    return took, used


def workers(command: list[str], environment: dict[str, str]) -> list[float]:
    """Private memory of each of several processes that live at once, in MB."""
    processes = [_start(command, environment) for _ in range(WORKERS)]
    used = [_memory(process.pid)["private"] for process in processes]
    for process in processes:
        _end(process)
    return used


def _start(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    answer = process.stdout.readline()  # type: ignore[union-attr]
    if answer != "ready\n":
        raise SystemExit(f"{command[0]} -c ... ended before its first vectors")
    return process


def _end(process: "subprocess.Popen[str]") -> None:
    process.communicate("\n")


def _memory(pid: int) -> dict[str, float]:
    """MB: ``private`` to the process, and the ``peak`` that was resident."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")

    def of(text: str, *names: str) -> float:
        lines = [line.split() for line in text.splitlines()]
        return sum(int(line[1]) for line in lines if line[0].rstrip(":") in names) * 1024 / 1e6

    private = of(rollup, "Private_Clean", "Private_Dirty")
    return {"private": private, "peak": of(status, "VmHWM")}


def _folder_size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()

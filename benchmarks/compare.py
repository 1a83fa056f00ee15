"""The same work by bareclip and by its peers, in one interleaved run.

    python benchmarks/compare.py CHECKPOINT --photos photos/ --envs envs/ --json compare.json

Every peer runs in a process and an environment of its own, which is made under ENVS if it is not
there, with the same weights, photos from disk and texts, at its best setting. Processes take
turns, so that drift of the machine hits all alike. Vectors are compared, so that nobody wins by
computing something else. A peer that cannot be installed or run is reported as such.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bareclip.bench import machine
from bareclip.bundle import Bundle
from bareclip.image_input import image_files
from bareclip.threads import default_threads
from bareclip_export.export import export
from bareclip_export.precisions.quantize import Data, Precisions

HERE = Path(__file__).resolve().parent
TORCH = ["torch==2.13.0"]
OPTIMUM = ["optimum-onnx==0.1.0", "transformers==4.57.6", "onnxruntime", "pillow"]
# Environment -> what pip installs, in turns; None is this one.
ENVIRONMENTS: dict[str, list[list[str]] | None] = {
    "bareclip": None,
    "torch": [TORCH, OPTIMUM],
    "onnx_clip": [["onnx_clip"]],
    "fastembed": [["fastembed"]],
}
PEERS = {
    "bareclip": "bareclip",
    "bareclip-int8": "bareclip",
    "transformers": "torch",
    "torch.compile": "torch",
    "optimum": "torch",
    "onnx_clip": "onnx_clip",
    "fastembed": "fastembed",
}
WORKS = {
    "encode": "images, prepared, batch 8, ms each",
    "photos": "photos from disk, ms each",
    "prompts": "prompts, ms each",
}
PROMPTS = [f"a photo of a {word}{number}" for number in range(40) for word in (
    "cat", "dog", "bird", "fish", "car", "flower", "tree", "house", "horse", "boat", "street",
    "plate", "child", "mountain", "beach", "sunset", "train", "bicycle", "chair", "book", "clock",
    "bus", "elephant", "pizza", "umbrella",
)]  # fmt: skip


@dataclass
class Runner:
    """A peer's process, ready to work."""

    name: str
    process: subprocess.Popen[str]
    settings: str
    vectors: dict[str, str]

    def time(self, work: str) -> float:
        """Seconds of one turn."""
        return float(_ask(self.process, work)["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--envs", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="default: ENVS/models")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    models = arguments.models or arguments.envs / "models"
    photos = [str(path) for path in image_files(arguments.photos)]
    names = arguments.peers.split(",")
    failed: dict[str, str] = {}
    pythons = {e: _environment(arguments.envs, e, failed) for e in {PEERS[n] for n in names}}
    _make_models(arguments.checkpoint.resolve(), models, arguments.photos, pythons, failed)
    setup = json.dumps({"photos": photos, "prompts": PROMPTS[: arguments.prompts]})
    runners = []
    for name in names:
        python = pythons[PEERS[name]]
        if python is not None:
            runners += _start(name, python, models, setup, failed)
    seconds: dict[str, dict[str, list[float]]] = {r.name: {w: [] for w in WORKS} for r in runners}
    for turn in range(arguments.rounds):
        print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr)
        for work in WORKS:
            for runner in runners[turn % len(runners) :] + runners[: turn % len(runners)]:
                seconds[runner.name][work].append(runner.time(work))
    counts = {"encode": len(photos), "photos": len(photos), "prompts": arguments.prompts}
    report = {
        "machine": machine(),
        "checkpoint": arguments.checkpoint.name,
        "counts": counts,
        "rounds": arguments.rounds,
        "failed": failed,
        "peers": {
            runner.name: {
                "settings": runner.settings,
                "ms": {
                    work: {
                        "median": 1000 * median(seconds[runner.name][work]) / counts[work],
                        "least": 1000 * min(seconds[runner.name][work]) / counts[work],
                        "most": 1000 * max(seconds[runner.name][work]) / counts[work],
                    }
                    for work in WORKS
                },
                "ratio": {work: _ratio(seconds, runner.name, work) for work in WORKS},
                "cosine": {work: _cosine(runners, runner, work) for work in WORKS},
            }
            for runner in runners
        },
    }
    for runner in runners:
        runner.process.communicate()  # closes its input, which ends it
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """The report as Markdown; a ratio is the peer's time over bareclip's, turn by turn."""
    lines = []
    for work, title in WORKS.items():
        lines += [f"| {title} | median | least to most | times bareclip fp32 | least cosine |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for name, peer in sorted(
            report["peers"].items(), key=lambda item: item[1]["ms"][work]["median"]
        ):
            ms = peer["ms"][work]
            lines.append(
                f"| {name} | {ms['median']:.2f} | {ms['least']:.2f} to {ms['most']:.2f} | "
                f"{peer['ratio'][work]:.2f} | {peer['cosine'][work]:.6f} |"
            )
        lines.append("")
    lines += [f"- {name}: {peer['settings']}" for name, peer in report["peers"].items()]
    lines += [f"- {name}: could not be run: {why}" for name, why in report["failed"].items()]
    return "\n".join(lines)


def _environment(envs: Path, name: str, failed: dict[str, str]) -> str | None:
    """That environment's Python, made first if need be."""
    packages = ENVIRONMENTS[name]
    if packages is None:
        return sys.executable
    python = envs.resolve() / name / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
            for several in packages:
                command = [str(python), "-m", "pip", "install", "-q", *several]
                subprocess.run(command, check=True, stdout=sys.stderr)
    except (subprocess.CalledProcessError, OSError) as error:
        failed[name] = str(error)
        return None
    return str(python)


def _make_models(
    checkpoint: Path, models: Path, photos: Path, pythons: dict[str, Any], failed: dict[str, str]
) -> None:
    models.mkdir(parents=True, exist_ok=True)
    link = models / "checkpoint"
    if not link.exists():
        link.symlink_to(checkpoint)
    if not (models / "bareclip").exists():
        data = Data.read(photos, None)
        export(str(checkpoint), models / "bareclip", precisions=Precisions(("fp32", "int8"), data))
    Bundle.read(models / "bareclip")
    if pythons.get("torch") and not (models / "optimum" / "model.onnx").exists():
        script = HERE / "peers" / "models.py"
        command = [pythons["torch"], str(script), str(checkpoint), str(models)]
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            failed["models"] = f"{script.name} failed"


def _start(
    name: str, python: str, models: Path, setup: str, failed: dict[str, str]
) -> list[Runner]:
    worker = HERE / "peers" / "worker.py"
    process = subprocess.Popen(
        [python, str(worker), name, str(models.resolve()), str(default_threads())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    )
    try:
        ready = _ask(process, setup)
    except (OSError, ValueError) as error:
        process.kill()
        process.communicate()
        failed[name] = f"{error}; its own message is above"
        return []
    print(f"{name} is ready", file=sys.stderr)
    return [Runner(name, process, ready["settings"], ready["vectors"])]


def _ask(process: "subprocess.Popen[str]", line: str) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process has no pipes")
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise ValueError("the process ended")
    found: dict[str, Any] = json.loads(answer)
    return found


def _ratio(seconds: dict[str, dict[str, list[float]]], name: str, work: str) -> float:
    ours = seconds.get("bareclip", seconds[name])[work]
    return median(theirs / mine for theirs, mine in zip(seconds[name][work], ours, strict=True))


def _cosine(runners: list[Runner], runner: Runner, work: str) -> float:
    """Least cosine between a peer's vectors and those of bareclip in fp32."""
    first = next((r for r in runners if r.name == "bareclip"), runner)
    ours, theirs = np.load(first.vectors[work]), np.load(runner.vectors[work])
    return float((ours * theirs).sum(axis=1).min())


if __name__ == "__main__":
    main()

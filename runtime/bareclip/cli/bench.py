"""bareclip bench: how fast a bundle answers on this machine."""

import dataclasses
from pathlib import Path

import click

from .. import BareclipError, Bundle
from ..bundle.locate import find_bundle
from ..measure.speed import WORKS, Case, Report, advice, run
from .options import json_option
from .output import note, print_pairs, print_table, say, say_json


@click.command()
@click.argument("bundle", required=False)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="At most, for each figure.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Write curves to a .png file; needs bareclip[plot].",
)
@json_option
def bench(bundle: str | None, seconds: float, plot: Path | None, as_json: bool) -> None:
    """Measures BUNDLE here, the demo model where none is given, at every precision it has.

    \b
    bareclip bench clip-b32
    bareclip bench clip-b32 --plot bench.png --json > bench.json
    """
    if plot is not None:
        _check_plot(plot)
    report = run(Bundle.read(find_bundle(bundle)), seconds, note)
    if plot is not None:
        _draw(report, plot)
    if as_json:
        say_json(dataclasses.asdict(report))
        return
    _print(report)


def _print(report: Report) -> None:
    stolen = "unknown" if report.stolen is None else f"{report.stolen:.1%} of the time"
    about = [("bundle", report.bundle), *report.machine.items(), ("stolen by the host", stolen)]
    print_pairs(about)
    say("", "One at a time, from a file's bytes or a string to a vector, in milliseconds")
    rows = [
        [
            case.precision,
            case.device,
            what,
            *(f"{value:.2f}" for value in (timing.p50, timing.p90, timing.p99)),
            f"{timing.uncertainty:.0%}",
        ]
        for case in report.cases
        for what, timing in (("image", case.image), ("text", case.text))
        if timing is not None
    ]
    print_table(["precision", "device", "what", "p50", "p90", "p99", "p50 is within"], rows, 4)
    measured = {rate.work for case in report.cases for rate in case.rates}
    for work in (work for work in WORKS if work in measured):
        what = ', "a photo of a ..."' if work == "prompts" else ""
        say("", f"{work.capitalize()}{what}: a second through the tower alone, by batch size")
        print_table(*_rates(report.cases, work), right=len(_batches(report.cases)))
    say("", "On the way of one, in milliseconds")
    encodes = [
        (f"encode {what} at {case.precision}, {case.device}", milliseconds)
        for work, what in (("images", "the picture"), ("texts", "the text"))
        for case in report.cases
        if (milliseconds := case.encode(work)) is not None
    ]
    print_pairs([(stage, f"{value:.3f}") for stage, value in [*report.stages.items(), *encodes]])
    say("", f"{advice(report)}; `bareclip verify` says how near each comes to fp32")


def _rates(cases: list[Case], work: str) -> tuple[list[str], list[list[str]]]:
    batches = _batches(cases)
    rows = []
    for case in cases:
        for threads in sorted({rate.threads for rate in case.rates}):
            by_batch = {
                rate.batch: rate.per_second
                for rate in case.rates
                if rate.work == work and rate.threads == threads
            }
            rates = [f"{by_batch[batch]:.1f}" for batch in batches]
            rows.append([case.precision, case.device, str(threads), *rates])
    return ["precision", "device", "threads", *map(str, batches)], rows


def _batches(cases: list[Case]) -> list[int]:
    return sorted({rate.batch for case in cases for rate in case.rates})


def _check_plot(path: Path) -> None:
    if path.suffix != ".png" or not path.parent.is_dir():
        raise BareclipError(f"cannot write {path}: give a .png file in a folder that exists")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BareclipError(
            "drawing curves needs matplotlib: pip install 'bareclip[plot]', or use --json"
        ) from error


def _draw(report: Report, path: Path) -> None:
    from matplotlib.figure import Figure  # not pyplot, which wants a display

    figure = Figure(figsize=(13, 7), layout="constrained")
    panes = figure.subplots(2, 3)
    for column, work in enumerate(WORKS):
        latency, throughput = panes[0][column], panes[1][column]
        for case in report.cases:
            for threads in sorted({rate.threads for rate in case.rates}):
                rates = [r for r in case.rates if (r.work, r.threads) == (work, threads)]
                label = f"{case.precision}, {case.device}, {threads} thread{'s'[: threads > 1]}"
                batches = [rate.batch for rate in rates]
                throughput.plot(batches, [r.per_second for r in rates], marker="o", label=label)
                times = [1000 * rate.batch / rate.per_second for rate in rates]
                latency.plot(batches, times, marker="o", label=label)
        latency.set(title=work, ylabel="ms per batch", yscale="log")
        throughput.set(xlabel="batch size", ylabel=f"{work} per second")
        for pane in (latency, throughput):
            pane.set_xscale("log", base=2)
            pane.set_xticks([*_batches(report.cases)], [*map(str, _batches(report.cases))])
            pane.grid(alpha=0.3)
        throughput.set_ylim(bottom=0)
    panes[0][0].legend(fontsize="small")
    figure.suptitle(f"{report.bundle} on {report.machine['cpu']}")
    figure.savefig(path, dpi=120)

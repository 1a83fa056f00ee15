"""What the service promises, measured: every row of docs/serve.md's table.

    python -m benchmarks.serve --bundle clip-b32                   # all of it, an hour
    python -m benchmarks.serve --bundle clip-b32 --tenth           # a tenth of each count
    python -m benchmarks.serve --bundle clip-b32 --only overload --precision int8
    python -m benchmarks.serve --page docs/serve.md results.json   # writes its table anew

The service runs as it is deployed, in a process of its own; the load comes from this one, over
loopback, and the cores that it takes from the service are stated. The library is asked in this
process while the service has nothing to do. A machine's speed changes from minute to minute, so
what is compared is measured in turns. Photos are those of ``BARECLIP_DATA``, or drawn ones.
"""

import argparse
import asyncio
import io
import json
import os
import platform
import random
import re
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tests.runtime.serve.hostile import bombs, good_pictures, hostile
from tests.runtime.serve.running import Running

import bareclip
from bareclip.measure.samples import drawn_pixels

from .serve_load import Answer, Client, Load, closed, poisson, request

_EMBEDDINGS = "/v1/embeddings"
TEXTS = [f"a photo of a {one} {other}" for one in ("red", "green", "blue", "wild") for other in (
    "cat", "dog", "bird", "car", "fish", "flower", "beach", "sunset",
)]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of the table: what was measured, the aim, what was found, whether it holds."""

    name: str
    precision: str
    aim: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Sizes:
    """How much is measured; seconds, counts."""

    seconds: float
    turns: int
    overload: float
    bombs: int
    requests: int
    hostile: int
    hangups: int
    terminations: int


WHOLE = Sizes(10, 5, 60, 1000, 100_000, 10_000, 1000, 20)
TENTH = Sizes(3, 3, 6, 100, 10_000, 1000, 100, 2)


class Bench:
    """A model, in this process and as a service, and photos to ask both about."""

    def __init__(self, bundle: Path | None, precision: str, sizes: Sizes) -> None:
        self.bundle, self.precision, self.sizes = bundle, precision, sizes
        self.library = bareclip.load(bundle, precision=precision, preload=True)
        self.photos = sample_photos()
        self.raw = [request(_EMBEDDINGS, data, "image/jpeg") for data in self.photos]
        self.texts = [request(_EMBEDDINGS, json.dumps({"input": one}).encode()) for one in TEXTS]

    def serving(self, *arguments: object) -> Running:
        """The service, begun anew."""
        bundle = () if self.bundle is None else ("--bundle", self.bundle)
        return Running(*bundle, "--precision", self.precision, *arguments)

    def row(self, name: str, aim: str, found: str, holds: bool) -> Row:
        return Row(name, self.precision, aim, found, bool(holds))

    def rate(self, running: Running) -> float:
        """Photos a second that the service does for 32 clients."""
        return closed(running.port, self.raw, 32, self.sizes.seconds).rate

    def service_time(self, running: Running) -> float:
        """Seconds of one photo, alone."""
        return _median([one.seconds for one in closed(running.port, self.raw, 1, 2).good])


def overhead(bench: Bench) -> list[Row]:
    """One client, against the library in this process, a request each in turns."""
    rows = []
    with bench.serving() as running:
        for what, aim, asked, own in (
            (
                "picture",
                3.0,
                bench.raw,
                lambda n: bench.library.images.embed([_of(bench.photos, n)]),
            ),
            ("text", 2.0, bench.texts, lambda n: bench.library.texts.embed([_of(TEXTS, n)])),
        ):
            here: list[float] = []
            there: list[float] = []

            async def turns(
                asked: Sequence[bytes] = asked, own: Any = own, here: Any = here, there: Any = there
            ) -> None:
                client = Client(running.port)
                for number in range(20 * bench.sizes.turns):
                    # Now one first and now the other: who comes second finds the caches warm.
                    if number % 2:
                        there.append((await client.ask(_of(asked, number))).seconds)
                    began = time.perf_counter()
                    own(number)
                    here.append(time.perf_counter() - began)
                    if not number % 2:
                        there.append((await client.ask(_of(asked, number))).seconds)
                client.close()

            asyncio.run(turns())
            more = 1000 * _median([a - b for a, b in zip(there[5:], here[5:], strict=True)])
            rows.append(
                bench.row(
                    f"overhead with one client, a {what}", f"<= {aim:.0f} ms",
                    f"{more:.2f} ms (library {1000 * _median(here[5:]):.1f})", more <= aim,
                )
            )  # fmt: skip
    return rows


def throughput(bench: Bench) -> list[Row]:
    """32 clients of one photo each, against the library's own rate, in turns."""
    ratios, rates, shares = [], [], []
    with bench.serving() as running:
        closed(running.port, bench.raw, 32, 2)
        for _ in range(bench.sizes.turns):
            own = [_library_rate(bench)]
            found = closed(running.port, bench.raw, 32, bench.sizes.seconds)
            own.append(_library_rate(bench))
            ratios.append(found.rate / statistics.mean(own))
            rates.append(found.rate)
            shares.append(found.share)
    ratio = _median(ratios)
    shown = f"{ratio:.0%}, {_median(rates):.1f} photos/s (load {_median(shares):.2f} cores)"
    return [
        bench.row("32 clients of one photo each", ">= 90 % of the library", shown, ratio >= 0.9)
    ]


def texts(bench: Bench) -> list[Row]:
    """Texts of 32 clients against one client's, in turns."""
    ratios, rates, shares = [], [], []
    with bench.serving() as running:
        closed(running.port, bench.texts, 32, 1)
        for _ in range(bench.sizes.turns):
            one = closed(running.port, bench.texts, 1, bench.sizes.seconds / 2)
            many = closed(running.port, bench.texts, 32, bench.sizes.seconds / 2)
            ratios.append(many.rate / one.rate)
            rates.append(many.rate)
            shares.append(many.share)
    ratio = _median(ratios)
    shown = f"{ratio:.1f} times, {_median(rates):.0f} texts/s (load {_median(shares):.2f} cores)"
    return [bench.row("texts of 32 clients against one at a time", ">= 4 times", shown, ratio >= 4)]


def random_arrivals(bench: Bench) -> list[Row]:
    """Clients that come at random, at 70 % of what the service can do, in turns.

    Of the turns those count in which the machine was about as fast afterwards as before: on one
    that others use too, 70 % of its speed a moment ago may be more than all that it has now.
    """
    ratios, lasts, alones, refused, shares, asked = [], [], [], [], [], 0
    with bench.serving() as running:
        closed(running.port, bench.raw, 32, 2)
        for turn in range(2 * bench.sizes.turns):
            alone = [bench.service_time(running)]
            before = closed(running.port, bench.raw, 32, bench.sizes.seconds / 2).rate
            found = poisson(running.port, bench.raw, 0.7 * before, bench.sizes.seconds, seed=turn)
            after = closed(running.port, bench.raw, 32, bench.sizes.seconds / 2).rate
            alone.append(bench.service_time(running))
            is_last_chance = turn + 1 == 2 * bench.sizes.turns and not ratios
            if not 0.85 <= after / before <= 1 / 0.85 and not is_last_chance:
                continue
            lasts.append(_percentile([one.seconds for one in found.good], 99))
            alones.append(statistics.mean(alone))
            ratios.append(lasts[-1] / alones[-1])
            refused.append(len(found.answers) - len(found.good))
            shares.append(found.share)
            asked += len(found.answers)
    ratio = _median(ratios)
    shown = (
        f"{ratio:.1f} times ({1000 * _median(lasts):.0f} of {1000 * _median(alones):.0f} ms, "
        f"{len(ratios)} turns), {sum(refused)} refused of {asked} "
        f"(load {_median(shares):.2f} cores)"
    )
    return [
        bench.row(
            "Poisson at 70 % load", "p99 <= 4 service times, nothing refused", shown,
            ratio <= 4 and sum(refused) == 0,
        )
    ]  # fmt: skip


def beside_a_flood(bench: Bench) -> list[Row]:
    """A client of texts beside 32 of pictures."""
    found = Load()
    with bench.serving() as running:
        before = _counts(running)

        async def run() -> None:
            until = time.perf_counter() + 2 * bench.sizes.seconds

            async def flood(first: int) -> None:
                client, number = Client(running.port), first
                while time.perf_counter() < until:
                    await client.ask(_of(bench.raw, number))
                    number += 32
                client.close()

            async def text() -> None:
                client, number = Client(running.port), 0
                await asyncio.sleep(1)
                while time.perf_counter() < until:
                    found.answers.append(await client.ask(_of(bench.texts, number)))
                    number += 1
                client.close()

            await asyncio.gather(text(), *(flood(first) for first in range(32)))

        asyncio.run(run())
        after = _counts(running)
    seconds, count = (
        after[f'bareclip_inference_seconds_{part}{{tower="vision"}}']
        - before.get(f'bareclip_inference_seconds_{part}{{tower="vision"}}', 0)
        for part in ("sum", "count")
    )
    batch, last = seconds / count, _percentile([one.seconds for one in found.good], 99)
    shown = f"{last / batch:.2f} batches ({1000 * last:.0f} of {1000 * batch:.0f} ms)"
    return [
        bench.row(
            "a text beside a flood of pictures", "p99 <= 1.5 picture batches", shown,
            last <= 1.5 * batch and len(found.good) == len(found.answers),
        )
    ]  # fmt: skip


def overload(bench: Bench) -> list[Row]:
    """Four times as many as can be answered, at random, and how soon all is well again."""
    with bench.serving() as running:
        alone, seconds = bench.service_time(running), bench.sizes.overload
        before = bench.rate(running)
        found = poisson(running.port, bench.raw, 4 * before, seconds, seed=1)
        ended = time.perf_counter()
        while True:
            answer = closed(running.port, bench.raw, 1, 0.001).answers[0]
            if answer.status == 200 and answer.seconds <= 2 * alone:
                break
        recovered = time.perf_counter() - ended
        rate = (before + bench.rate(running)) / 2
    goodput = found.rate / rate
    refused = [one for one in found.answers if one.status != 200]
    proper = all(one.status == 429 and b"retry-after" in one.headers.lower() for one in refused)
    last = _percentile([one.seconds for one in refused], 99)
    admitted = _percentile([one.seconds for one in found.good], 99)
    statuses = {one.status for one in found.answers}
    shown = (
        f"goodput {goodput:.0%} of {rate:.0f}/s, statuses {sorted(statuses)}, refusals p99 "
        f"{1000 * last:.0f} ms, admitted p99 {admitted:.2f} s, normal after {recovered:.2f} s "
        f"(load {found.share:.2f} cores)"
    )
    return [
        bench.row(
            f"4 times overload for {seconds:.0f} s",
            "goodput >= 90 %, only 429 with Retry-After, refusals p99 <= 20 ms, normal in 2 s",
            shown,
            goodput >= 0.9 and proper and last <= 0.020 and recovered <= 2,
        )
    ]


def memory(bench: Bench) -> list[Row]:
    """Decompression bombs from eight clients; then many requests."""
    rows = []
    with bench.serving() as running:
        idle, sent = running.resident, bombs()
        asked = [request(_EMBEDDINGS, data, "image/png") for data in sent]
        found = _several(running.port, [_of(asked, n) for n in range(bench.sizes.bombs)], 8)
        most = running.peak() - idle
        shown = f"idle {idle >> 20} MB + {most / 1e6:.0f} MB, statuses {_statuses(found)}"
        rows.append(
            bench.row(
                f"memory through {bench.sizes.bombs:,} decompression bombs",
                "<= idle + 600 MB", shown, most <= 600e6 and running.status() == 200,
            )
        )  # fmt: skip
    with bench.serving() as running:
        early = bench.sizes.requests // 10
        mixed = [*bench.texts, *(bench.raw[:1] if bench.sizes is WHOLE else bench.raw[:4])]
        _several(running.port, [_of(mixed, n) for n in range(early)], 32)
        before = running.resident
        _several(running.port, [_of(mixed, n) for n in range(bench.sizes.requests - early)], 32)
        more = running.resident - before
        rows.append(
            bench.row(
                f"memory from request {early:,} to {bench.sizes.requests:,}", "<= 20 MB more",
                f"{more / 1e6:+.1f} MB", more <= 20e6,
            )
        )  # fmt: skip
    return rows


def hostile_files(bench: Bench) -> list[Row]:
    """Damaged and hostile files, a good one between them now and then."""
    random_, seeds = random.Random(0), good_pictures()
    right = dict(zip(seeds, bench.library.embed_images(seeds), strict=True))
    with bench.serving() as running:
        sent = [hostile(random_, seeds) for _ in range(bench.sizes.hostile)]
        asked = [request(_EMBEDDINGS, data, "image/png") for data in sent]
        found = _several(running.port, asked, 8)
        good = 0
        for turn in range(10):
            group = [_of(seeds, turn + n) for n in range(32)]
            group[turn] = group[turn][: len(group[turn]) // 2]
            answers = _several(
                running.port, [request(_EMBEDDINGS, data, "image/png") for data in group], 32
            )
            for data, answer in zip(group, answers, strict=True):
                good += answer.status == 200 and np.array_equal(_vector(answer), right.get(data))
        ready = running.status() == 200
    statuses = _statuses(found)
    shown = f"statuses {statuses}; {good / 10:g} good of 32 answered; ready {ready}"
    holds = set(statuses) <= {"200", "400", "413", "429"} and ready and good == 310
    return [
        bench.row(
            f"{bench.sizes.hostile:,} damaged or hostile files",
            "no 5xx, no dead thread; 31 good of 32 answered", shown, holds,
        )
    ]  # fmt: skip


def exactness(bench: Bench) -> list[Row]:
    """Vectors under load, in whatever batches they were, against the library's alone."""
    images = [bench.library.images.embed([photo], batch_size=1)[0] for photo in bench.photos]
    words = [bench.library.texts.embed([text])[0] for text in TEXTS]
    asked = [*bench.raw, *bench.texts]
    order = [number % len(asked) for number in range(10 * len(asked))]
    random.Random(3).shuffle(order)
    with bench.serving() as running:
        found = _several(running.port, [asked[number] for number in order], 24)
    right = [*images, *words]
    same = sum(
        np.array_equal(_vector(answer), right[number])
        for number, answer in zip(order, found, strict=True)
    )
    shown = f"{same} of {len(order)} bit for bit"
    return [bench.row("vectors under load against alone", "bit for bit", shown, same == len(order))]


def hangups(bench: Bench) -> list[Row]:
    """Clients that hang up while their pictures wait; what is computed from then on."""
    count, name = bench.sizes.hangups, 'bareclip_batch_size_sum{tower="vision"}'
    # So small that a thousand fit in the bytes that a service takes at once.
    small = sorted(bench.raw, key=len)[:8]
    with bench.serving("--max-wait", 1000, "--deadline", 1000) as running:

        async def hang_up() -> float:
            clients = [Client(running.port) for _ in range(count)]
            for client in clients:
                await client.connect()
            asks = [
                asyncio.ensure_future(client.ask(_of(small, number)))
                for number, client in enumerate(clients)
            ]
            # Until all are read, so that none of them is only just coming in.
            while True:
                counts = await asyncio.to_thread(_counts, running)
                done = counts.get(name, 0.0)
                if done + _waiting(counts) >= count - 2 * bench.library.threads - 8:
                    break
                await asyncio.sleep(0.01)
            for client in clients:
                client.close()
            await asyncio.gather(*asks)
            return done

        done = asyncio.run(hang_up())
        [last] = closed(running.port, bench.raw, 1, 0.001).answers
        while _waiting(_counts(running)):
            time.sleep(0.05)
        time.sleep(0.5)
        computed = _counts(running)[name] - done - 1
    batch = bench.library.images.batch_size
    shown = f"{computed:.0f} pictures computed for nobody of {count - done:.0f}, a batch is {batch}"
    return [
        bench.row(
            f"{count:,} clients that hang up", "at most one batch computed for nobody", shown,
            computed <= batch and last.status == 200,
        )
    ]  # fmt: skip


def terminations(bench: Bench) -> list[Row]:
    """SIGTERM while 32 clients ask for all they can."""
    answers: list[Answer] = []
    codes = []
    for turn in range(bench.sizes.terminations):
        running = bench.serving("--drain", 0.5)

        async def client(first: int, found: Load, running: Running = running) -> None:
            mine, number = Client(running.port), first
            while True:
                try:
                    await mine.connect()
                except OSError:
                    return
                found.answers.append(await mine.ask(_of(bench.raw, number)))
                number += 1

        async def run(running: Running = running, turn: int = turn, client: Any = client) -> Load:
            found = Load()
            clients = [asyncio.ensure_future(client(first, found)) for first in range(32)]
            await asyncio.sleep(1 + 0.037 * turn)
            running.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*clients)
            return found

        found = asyncio.run(run())
        codes.append(running.stop())
        answers += found.answers
    statuses = _statuses(answers)
    shown = f"statuses {statuses} (0 is none); exit codes {sorted(set(codes))}"
    return [
        bench.row(
            f"SIGTERM under full load, {bench.sizes.terminations} times",
            "every accepted request answered, exit 0", shown,
            set(statuses) <= {"200", "429"} and set(codes) == {0},
        )
    ]  # fmt: skip


def start(bench: Bench) -> list[Row]:
    """From nothing to ready, its towers prepared; and what it takes when nobody asks."""
    times, aim = [], 1.0 if bench.precision == "int8" else 1.4
    bench.serving().stop()
    for _ in range(bench.sizes.turns):
        began = time.perf_counter()
        running = bench.serving()
        times.append(time.perf_counter() - began)
        if len(times) == bench.sizes.turns:
            idle = -_cpu(running)
            time.sleep(bench.sizes.seconds)
            idle = (idle + _cpu(running)) / bench.sizes.seconds
        running.stop()
    ready = _median(times)
    return [
        bench.row("start to ready", f"<= {aim} s", f"{ready:.2f} s", ready <= aim),
        bench.row("idle", "<= 0.5 % of a core", f"{idle:.2%}", idle <= 0.005),
    ]


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "overhead": overhead,
    "throughput": throughput,
    "texts": texts,
    "random": random_arrivals,
    "flood": beside_a_flood,
    "overload": overload,
    "memory": memory,
    "hostile": hostile_files,
    "exactness": exactness,
    "hangups": hangups,
    "terminations": terminations,
    "start": start,
}


def page(rows: Sequence[Row], machine: str, path: Path) -> None:
    """Writes the table anew, between the marks that docs/serve.md has for it."""
    lines = ["| what | precision | aim | found | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.precision} | {row.aim} | {row.found} | "
        f"{'holds' if row.holds else '**missed**'} |"
        for row in rows
    ]
    text = path.read_text(encoding="utf-8")
    begin, end = "<!-- measured -->", "<!-- end -->"
    table = f"{begin}\n{machine}\n\n" + "\n".join(lines) + f"\n{end}"
    text = re.sub(f"{begin}.*{end}", lambda _: table, text, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")


def sample_photos() -> list[bytes]:
    """Files of photos, those of ``BARECLIP_DATA`` or drawn ones."""
    folder = os.environ.get("BARECLIP_DATA")
    if folder:
        return [path.read_bytes() for path in sorted(Path(folder, "photos/images").glob("*.jpg"))]
    found = []
    for pixels in drawn_pixels(16, 480):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        found.append(file.getvalue())
    return found


def _of(several: Sequence[Any], number: int) -> Any:
    return several[number % len(several)]


def _library_rate(bench: Bench) -> float:
    count = max(16, int(16 * bench.sizes.seconds))
    began = time.perf_counter()
    bench.library.images.embed(_of(bench.photos, number) for number in range(count))
    return count / (time.perf_counter() - began)


def _several(port: int, requests: Sequence[bytes], clients: int) -> list[Answer]:
    """The answers to all of them, in order, asked by so many clients; refused ones ask again."""
    found: list[Any] = [None] * len(requests)

    async def client(waiting: Any) -> None:
        mine = Client(port)
        for number in waiting:
            while (answer := await mine.ask(requests[number])).status == 429:
                await asyncio.sleep(0.2)
            found[number] = answer
        mine.close()

    async def run() -> None:
        waiting = iter(range(len(requests)))
        await asyncio.gather(*(client(waiting) for _ in range(clients)))

    asyncio.run(run())
    return found


def _vector(answer: Answer) -> Any:
    return np.array(json.loads(answer.body)["data"][0]["embedding"], np.float32)


def _statuses(answers: Sequence[Answer]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in answers:
        found[str(one.status)] = found.get(str(one.status), 0) + 1
    return dict(sorted(found.items()))


def _counts(running: Running) -> dict[str, float]:
    text = running.raw(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").decode()
    lines = [line for line in text.splitlines() if line.startswith("bareclip_")]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def _waiting(counts: dict[str, float]) -> float:
    return sum(value for name, value in counts.items() if "queue_items" in name)


def _cpu(running: Running) -> float:
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _percentile(values: Sequence[float], part: float) -> float:
    return float(np.percentile(values, part)) if values else 0.0


def machine() -> str:
    """What it was measured on, in words."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores of {name}, bareclip {bareclip.__version__}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--precision", default="fp32", help="several with commas")
    parser.add_argument("--only", default=",".join(PARTS), help=", ".join(PARTS))
    parser.add_argument("--tenth", action="store_true")
    parser.add_argument("--json", type=Path, help="rows are added to those that are there")
    parser.add_argument("--page", type=Path, help="writes the table of --json, measures nothing")
    arguments = parser.parse_args()
    known = (
        json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else []
    )
    rows = [Row(**one) for one in known]
    if arguments.page:
        page(rows, machine(), arguments.page)
        return
    for precision in arguments.precision.split(","):
        bench = Bench(arguments.bundle, precision, TENTH if arguments.tenth else WHOLE)
        for part in arguments.only.split(","):
            for row in PARTS[part](bench):
                print(
                    f"{'holds ' if row.holds else 'MISSED'} {row.precision} {row.name}: "
                    f"{row.found} (aim {row.aim})",
                    flush=True,
                )
                same = (row.name, row.precision)
                rows = [one for one in rows if (one.name, one.precision) != same] + [row]
                if arguments.json:
                    arguments.json.write_text(json.dumps([asdict(one) for one in rows], indent=2))
        bench.library.close()


if __name__ == "__main__":
    main()

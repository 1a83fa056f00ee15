"""The service: a model's engine with what requests share, awaited rather than waited for."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from starlette.requests import ClientDisconnect, Request

from ..clip import Clip
from ..errors import TextError
from ..images.pixels import Reading
from ..scoring.zero_shot import LabelMatrix, Templates, label_matrix
from ..texts.prompts import fill, resolve
from ..types import Vectors
from .engine import Engine
from .fetching import Fetcher
from .inputs import Address, Item, Picture, Text, check_counts
from .labels import LabelCache
from .metrics import Metrics
from .problems import PictureProblem, Problem, busy, invalid, too_large
from .search import Photos
from .settings import Settings
from .stage import Job, LateError

State = Literal["loading", "ready", "draining", "broken"]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Embedded:
    """Vectors of what was asked about, or why there is none, in order; and tokens counted."""

    rows: list[Vectors | Problem]
    tokens: int

    def vectors(self) -> Vectors:
        """(N, D).

        Raises:
            Problem: One has none; of several the first.
        """
        found = []
        for row in self.rows:
            if isinstance(row, Problem):
                raise row
            found.append(row)
        return np.stack(found)


class Service:
    """What all requests share.

    Attributes:
        settings: As given.
        metrics: What is counted.
        draining: Whether it is about to end.
        opened: When it was made, in seconds since 1970.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.draining = False
        self.opened = int(time.time())
        self.photos: Photos | None = None
        self._engine: Engine | None = None
        self._labels = LabelCache(settings.limits.label_bytes)
        self._fetcher = Fetcher(settings.url_hosts) if settings.url_hosts else None
        self._bodies = 0

    def start(self, clip: Clip) -> None:
        """Takes a loaded model, warms it up, and is ready."""
        engine = Engine(clip, self.settings, self.metrics.watch, self.metrics.dropped)
        engine.warm_up()
        self.metrics.follow(engine.stages)
        if self.settings.database is not None:
            self.photos = Photos(self.settings.database, clip, self.settings.secret)
        self._engine = engine

    def close(self) -> None:
        """Ends its threads."""
        if self._engine is not None:
            self._engine.close()
        if self.photos is not None:
            self.photos.close()

    @property
    def state(self) -> State:
        """What ``/ready`` says."""
        if self._engine is None:
            return "loading"
        if not self._engine.healthy():
            return "broken"
        return "draining" if self.draining else "ready"

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            Problem: 503, while the model is being loaded.
        """
        if self._engine is None:
            raise Problem(503, "the model is being loaded", code="loading", retry_after=1)
        return self._engine

    @property
    def clip(self) -> Clip:
        """The model; raises as ``engine`` does."""
        return self.engine.clip

    def check_model(self, name: object) -> None:
        """Refuses requests that are meant for another model.

        Raises:
            Problem: 404.
        """
        bundle = self.clip.bundle
        checkpoint = bundle.source.checkpoint
        known = {bundle.name, bundle.folder.name, checkpoint, checkpoint.split("/")[-1]}
        if name is not None and not (isinstance(name, str) and name in known):
            raise Problem(
                404, f"this server has one model, {bundle.name}", code="model_not_found",
                param="model",
            )  # fmt: skip

    def reserve(self, count: int) -> None:
        """Takes so many bytes for a body, or with a negative number gives them back.

        Raises:
            Problem: 429, there is no room for them.
        """
        if count > 0 and self._bodies + count > self.settings.limits.bodies:
            raise busy(1, "too many bytes are under way")
        self._bodies += count

    async def embed(
        self,
        request: Request,
        asked: Sequence[Item],
        *,
        truncate: bool = True,
        name: str = "input",
        where: Sequence[str] | None = None,
        admit: bool = True,
        reading: Reading | None = None,
    ) -> Embedded:
        """Embeds what a request asks about.

        Args:
            request: Whose client may hang up.
            asked: Texts, pictures and addresses, in any mixture.
            truncate: Cut texts that are too long.
            name, where: What messages call an item: of ``where``, or ``name[place]``.
            admit: Whether the request is refused when too much is waiting.
            reading: How pictures are read; None is the model's.

        Raises:
            Problem: It cannot be done, now or at all.
            ClientDisconnect: Nobody waits for it any more.
        """
        check_counts(asked, self.settings.limits)
        found = await self._fetched(asked)
        files = [one.data for one in found if isinstance(one, Picture)]
        texts = [one.value for one in found if isinstance(one, Text)]
        if admit:
            self.engine.refuse_when_full(len(files), len(texts))
        deadline = _deadline(request)
        jobs: list[Job] = []
        if files:
            jobs.append(self.engine.pictures(files, reading=reading, deadline=deadline))
        if texts:
            jobs.append(self.engine.texts(texts, truncate=truncate, deadline=deadline))
        results = await self._results(request, jobs)
        waiting = {
            Picture: iter(results[0] if files else []), Text: iter(results[-1] if texts else [])
        }  # fmt: skip
        rows: list[Vectors | Problem] = []
        for place, one in enumerate(found):
            label = where[place] if where else f"{name}[{place}]"
            rows.append(
                one if isinstance(one, Problem) else self._row(next(waiting[type(one)]), label)
            )
        return Embedded(rows, sum(job.tokens for job in jobs))

    async def label_matrix(
        self, request: Request, labels: Sequence[str], templates: Templates, ensemble: Any
    ) -> LabelMatrix:
        """The matrix of labels, embedded unless it is kept.

        Raises:
            Problem: Labels or templates that cannot be used, or no room now.
        """
        try:
            chosen = resolve(templates)
        except TextError:
            raise invalid(
                "templates are plain, five, imagenet, or sentences with {} exactly once",
                "templates",
            ) from None
        count, most = len(labels) * len(chosen), self.settings.limits.prompts
        if count > most:
            raise too_large(
                f"{len(labels)} labels in {len(chosen)} templates are {count} prompts; "
                f"{most} are the most",
                "labels",
            )

        async def make() -> LabelMatrix:
            prompts = [fill(template, label) for template in chosen for label in labels]
            self.engine.refuse_when_full(0, len(prompts))
            job = self.engine.texts(prompts)
            [rows] = await self._results(None, [job])
            found = dict(zip(prompts, [self._row(row, "labels") for row in rows], strict=True))

            def known(asked: Sequence[str]) -> Vectors:
                return Embedded([found[prompt] for prompt in asked], 0).vectors()

            return await asyncio.to_thread(label_matrix, labels, chosen, ensemble, known)

        key = (tuple(labels), chosen, ensemble)
        return await self.unless_gone(request, self._labels.get(key, make))

    async def unless_gone(self, request: Request, work: Awaitable[Answer]) -> Answer:
        """Waits for work, and cancels it when its client hangs up.

        Raises:
            ClientDisconnect: It has.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnect
            try:
                return task.result()
            except asyncio.CancelledError:  # the connection's end gave its jobs up
                raise ClientDisconnect from None
        finally:
            gone.cancel()
            task.cancel()

    async def _results(self, request: Request | None, jobs: Sequence[Job]) -> list[list[Any]]:
        work = asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        if request is not None:
            request.scope["bareclip.jobs"] = jobs  # the connection gives them up when it ends
        try:
            # The stages settle what is late; this is for a stage that does not end.
            async with asyncio.timeout(self.settings.limits.deadline + self.settings.stuck):
                return await (work if request is None else self.unless_gone(request, work))
        except TimeoutError:
            raise _late() from None
        finally:
            for job in jobs:
                job.abandon()

    async def _fetched(self, asked: Sequence[Item]) -> list[Picture | Text | Problem]:
        async def one(item: Item) -> Picture | Text | Problem:
            if not isinstance(item, Address):
                return item
            if self._fetcher is None:
                raise invalid("addresses are not fetched here; send the picture's bytes", "input")
            try:
                return Picture(await asyncio.to_thread(self._fetcher.fetch, item.url))
            except PictureProblem as problem:
                return Problem(400, f"address: {problem}", code=problem.code, param="input")

        if not any(isinstance(item, Address) for item in asked):
            return [item for item in asked if not isinstance(item, Address)]
        return list(await asyncio.gather(*map(one, asked)))

    def _row(self, result: object, where: str) -> Vectors | Problem:
        if isinstance(result, np.ndarray):
            return result
        if isinstance(result, PictureProblem):
            return Problem(400, f"{where}: {result}", code=result.code, param=where)
        if isinstance(result, TextError):
            context = self.clip.bundle.text_recipe().context_length
            return Problem(
                400, f"{where} has more than {context} tokens, or is no text", code="invalid_text",
                param=where,
            )  # fmt: skip
        if isinstance(result, LateError):
            return _late()
        return Problem(500, f"{where}: the model could not answer", code="internal", param=where)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _deadline(request: Request) -> float | None:
    given = request.headers.get("x-deadline-seconds")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise invalid("the header X-Deadline-Seconds must be a positive number")
    return seconds


def _late() -> Problem:
    return Problem(504, "the deadline passed before the answer was there", code="deadline")

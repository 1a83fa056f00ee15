"""The engine: a model's two towers behind stages, and who is let in.

    pictures: decode (threads) -> vision (one thread)
    texts:    tokenize (one thread) -> text (one thread)

Nothing here knows of HTTP. Towers have a thread each, so that a text never waits for a batch of
pictures, nor pictures for texts: the system shares the cores between the two.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..encoders import TEXT_BATCH
from ..encoders.text_encoder import TEXT_ROWS
from ..errors import BareclipError
from ..images.pixels import Reading
from ..types import Vectors
from .pictures import Reader
from .problems import Problem, busy
from .settings import Settings
from .stage import Done, Job, Stage

Watch: TypeAlias = Callable[[str, Done], None]
Dropped: TypeAlias = Callable[[str, int], None]
Pixels: TypeAlias = NDArray[np.uint8]
_Tokens: TypeAlias = list[int]

# Of a text whose tokens are not counted yet.
_CHARACTERS_A_TOKEN = 4
# Characters that are tokenized where they come in: handing them to a thread takes longer.
_AT_ONCE = 200


class Engine:
    """Embeds pictures and texts for many at once.

    Attributes:
        clip: The model.
    """

    def __init__(
        self,
        clip: Clip,
        settings: Settings,
        watch: Watch = lambda name, done: None,
        dropped: Dropped = lambda name, count: None,
    ) -> None:
        self.clip = clip
        self._settings, self._limits = settings, settings.limits
        both: dict[str, Any] = {"watch": watch, "dropped": dropped}
        self._decode: Stage[tuple[bytes, Reading], Pixels] | None = None
        self._vision: Stage[Pixels, Vectors] | None = None
        self._tokenize: Stage[tuple[Sequence[str], bool], Any] | None = None
        self._text: Stage[_Tokens, Vectors] | None = None
        if "vision" in clip.precision:
            images = clip.images
            self._reader = Reader(images.recipe, settings.formats, self._limits)
            self._vision = Stage(
                "vision", self._embed_pixels, Job.settle, most=images.batch_size, **both
            )
            self._decode = Stage(
                "decode", self._read, self._to_vision, threads=clip.threads, **both
            )
        if "text" in clip.precision:
            self._context = clip.texts.recipe.context_length
            self._text = Stage(
                "text", self._embed_tokens, Job.settle, most=TEXT_BATCH, most_cost=TEXT_ROWS,
                **both,
            )  # fmt: skip
            self._tokenize = Stage("tokenize", self._encode, self._to_text, **both)

    @property
    def stages(self) -> list[Stage[Any, Any]]:
        """Those it has."""
        found = (self._decode, self._vision, self._tokenize, self._text)
        return [stage for stage in found if stage is not None]

    def healthy(self) -> bool:
        """Whether every stage can do its work."""
        return all(stage.healthy(self._settings.stuck) for stage in self.stages)

    def warm_up(self) -> None:
        """Asks each tower once, so that the first client does not wait and times are known."""
        if self._vision is not None:
            size = self.clip.images.recipe.size
            grey = np.full((size, size, 3), 128, np.uint8)
            job = self._job(1, self._vision, 1.0, None)
            self._vision.submit(job, 0, grey, 1.0)
            job.future.result()
        if self._text is not None:
            self.texts(["a photo of a cat"]).future.result()

    def refuse_when_full(self, pictures: int, texts: int) -> None:
        """Refuses work that would wait for too long.

        Raises:
            Problem: 429, with the seconds after which to try again.
        """
        now = time.monotonic()
        wait = 0.0
        if pictures and self._decode is not None and self._vision is not None:
            turn = now + self._vision.own(pictures, pictures)
            wait = self._decode.wait(turn) + self._vision.wait(turn)
        if texts and self._text is not None:
            wait = max(wait, self._text.wait(now + self._text.own(texts, 8 * texts)))
        if wait > self._limits.wait:
            raise busy(wait - self._limits.wait / 2, "too much work is waiting")

    def pictures(
        self,
        files: Sequence[bytes],
        *,
        reading: Reading | None = None,
        deadline: float | None = None,
    ) -> Job:
        """Embeds pictures.

        Args:
            files: N files' bytes.
            reading: See ``bareclip.load``; None is the model's.
            deadline: Seconds from now; None is the service's.

        Returns:
            A job whose result is N unit vectors, or exceptions in their places.

        Raises:
            Problem: The model embeds no pictures.
        """
        if self._vision is None or self._decode is None:
            raise Problem(400, "this model embeds no pictures", code="unsupported")
        job = self._job(len(files), self._vision, len(files), deadline)
        self._vision.expect(job, len(files), len(files))
        self._decode.expect(job, len(files), sum(map(len, files)))
        for place, data in enumerate(files):
            self._decode.submit(job, place, (data, reading or self.clip.reading), len(data))
        if not files:
            job.future.set_result([])
        return job

    def texts(
        self, texts: Sequence[str], *, truncate: bool = True, deadline: float | None = None
    ) -> Job:
        """Embeds texts; as ``pictures``, and the job's ``tokens`` are counted.

        Raises:
            Problem: The model embeds no texts.
        """
        if self._text is None or self._tokenize is None:
            raise Problem(400, "this model embeds no texts", code="unsupported")
        guess = sum(min(2 + len(text) / _CHARACTERS_A_TOKEN, self._context) for text in texts)
        job = self._job(len(texts), self._text, guess, deadline)
        self._text.expect(job, len(texts), guess)
        if not texts:
            job.future.set_result([])
        elif sum(map(len, texts)) <= _AT_ONCE:
            self._to_text(job, None, self._encode([(texts, truncate)])[0])
        else:
            self._tokenize.submit(job, None, (texts, truncate), len(texts))
        return job

    def close(self) -> None:
        """Ends the threads when what is queued is done."""
        for stage in self.stages:
            stage.close()

    def _job(self, count: int, stage: Stage[Any, Any], cost: float, deadline: float | None) -> Job:
        now = time.monotonic()
        seconds = min(deadline or self._limits.deadline, self._limits.deadline)
        return Job(count, deadline=now + seconds, turn=now + stage.own(count, cost))

    def _read(self, works: Sequence[tuple[bytes, Reading]]) -> list[Pixels]:
        return [self._reader.pixels(data, reading) for data, reading in works]

    def _to_vision(self, job: Job, place: int, pixels: Pixels) -> None:
        assert self._vision is not None
        self._vision.submit(job, place, pixels, 1.0)

    def _embed_pixels(self, works: Sequence[Pixels]) -> list[Vectors]:
        return list(self.clip.images.embed_pixels(np.stack(works)))

    def _encode(self, works: Sequence[Any]) -> list[Any]:
        return [self.clip.texts.tokenizer.try_encode(*work) for work in works]

    def _to_text(self, job: Job, _: None, encoded: Any) -> None:
        assert self._text is not None
        tokens, errors = encoded
        waiting = iter(tokens)
        job.tokens = sum(map(len, tokens))
        for place in range(job.count):
            error: BareclipError | None = errors.get(place)
            if error is not None:
                job.settle(place, error)
            else:
                ids = next(waiting)
                self._text.submit(job, place, ids, len(ids))

    def _embed_tokens(self, works: Sequence[_Tokens]) -> list[Vectors]:
        texts = self.clip.texts
        rows: list[Any] = [None] * len(works)
        for places, ids in texts.tokenizer.batches(works, TEXT_BATCH, TEXT_ROWS):
            for place, row in zip(places, texts.embed_tokens(ids), strict=True):
                rows[place] = row
        return rows

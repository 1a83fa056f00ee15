"""ImageEncoder and TextEncoder: items in, unit vectors out, in order and in bounded memory.

An encoder owns the recipe or the tokenizer, the tower, and how work is cut into batches; all
that embeds stands on these two. An encoder is made at once and loads its tower when it is first
asked for a vector. Both may be used by many threads at once.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar, get_args, overload

import numpy as np
from numpy.typing import NDArray

from .bundle import TOKENIZER, Bundle
from .errors import BareclipError, ImageError, TextError
from .images.decoding import DecodePool
from .images.inputs import ImageInput, describe, is_one_image
from .images.pixels import Reading, read_pixels
from .inference.device import Device, ProviderOption
from .inference.threads import Threads, checked_threads
from .inference.towers import LazyTower
from .texts.tokenizer import Tokenizer
from .types import Failure, PartialEmbeddings, Vectors, short

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Pixels = NDArray[np.uint8]
DType = Literal["float32", "float16"]
OnError = Literal["raise", "skip"]

IMAGE_BATCH = 8
# What is left of a batch of texts once what they have in common is computed once.
TEXT_BATCH, TEXT_ROWS = 256, 512
# A GPU wants more work at once than a CPU: a guess that no GPU has judged yet.
CUDA_IMAGE_BATCH = 64
CUDA_TEXT_BATCH = 256
# Items without a picture, such as files that an index knows, that may wait for a batch to fill.
_WAITING = 64
# Texts of a stream that are sorted together, so that they share rows: few at first, so that the
# first vector comes soon, and then twice as many each time.
_FIRST_WINDOW, _LARGEST_WINDOW = 32, 2048


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a bundle's encoders run; see ``bareclip.load``."""

    precision: str | Mapping[str, str] = "auto"
    device: str = "auto"
    threads: int | None = None
    reading: Reading = "as_seen"
    cache: bool = True
    provider_options: Mapping[str, ProviderOption] | None = None
    spinning: bool = False
    # For who measures: also a precision that is slower than fp32 on that device.
    any_precision: bool = False


class _Encoder:
    """What both have in common: a tower that is loaded when it is first asked for.

    Attributes:
        width: Of a vector.
        threads: For one operator, and for decoding.
    """

    def __init__(self, bundle: Bundle, name: str, options: Options) -> None:
        self.width = bundle.embedding_dim
        self.threads = checked_threads(options.threads)
        self._tower = LazyTower(
            bundle,
            name,
            options.precision,
            Device.parse(options.device, options.provider_options),
            Threads(self.threads, options.spinning),
            options.cache,
            options.any_precision,
        )

    @property
    def precision(self) -> str:
        """What the tower runs at, such as ``"fp32"``."""
        return self._tower.precision

    @property
    def loaded(self) -> bool:
        """Whether the tower has been asked for."""
        return self._tower.loaded

    @property
    def on_cuda(self) -> bool:
        """Whether the tower runs, or will, on a GPU."""
        return self._tower.on_cuda

    @property
    def device(self) -> str:
        """``"cpu"``, ``"cuda:N"`` or ``"cuda:N,M"``; a GPU's tower is loaded to know."""
        return self._tower.device

    def preload(self) -> None:
        """Loads the tower now, so that the first vectors do not wait for it.

        Raises:
            BundleError: It is damaged.
            DeviceError: The device does not start.
        """
        self._tower.get()

    def close(self) -> None:
        """Gives its memory and threads back; after that it embeds nothing."""
        self._tower.close()


class ImageEncoder(_Encoder):
    """Pictures to unit vectors; made by ``bareclip.load``, as ``clip.images``.

    Attributes:
        recipe: How pictures become pixels.
        reading: How they are read; see ``bareclip.load``.
        batch_size: Pictures in a batch unless a call says otherwise.

    Raises:
        BundleError: The bundle has no vision tower, or not at that precision.
        DeviceError: The device cannot be had, or does not run that precision.

    Example:
        >>> clip = bareclip.load()
        >>> for vector in clip.images.stream(photos):
        ...     print(vector.shape)
        (128,)
        (128,)
    """

    def __init__(self, bundle: Bundle, options: Options) -> None:
        if options.reading not in get_args(Reading):
            raise ImageError(
                f"reading {options.reading!r} is unknown; it is 'as_seen' or 'as_stored'"
            )
        self.recipe = bundle.image_recipe()
        self.reading = options.reading
        super().__init__(bundle, "vision", options)
        self._pool = DecodePool(self.threads)

    @property
    def batch_size(self) -> int:
        return CUDA_IMAGE_BATCH if self._tower.on_cuda else IMAGE_BATCH

    @overload
    def embed(
        self,
        images: Iterable[ImageInput],
        *,
        batch_size: int | None = ...,
        dtype: DType = ...,
        on_error: Literal["raise"] = ...,
    ) -> Vectors: ...
    @overload
    def embed(
        self,
        images: Iterable[ImageInput],
        *,
        batch_size: int | None = ...,
        dtype: DType = ...,
        on_error: Literal["skip"],
    ) -> PartialEmbeddings: ...
    def embed(
        self,
        images: Iterable[ImageInput],
        *,
        batch_size: int | None = None,
        dtype: DType = "float32",
        on_error: OnError = "raise",
    ) -> Vectors | PartialEmbeddings:
        """Embeds images, decoding the next ones while the model works on these.

        Args:
            images: N paths, bytes of files, binary files, PIL images or uint8 arrays
                (H, W, 3) or (H, W), in any mixture; any iterable.
            batch_size: Most images in a batch; None is what suits the device.
            dtype: Of the result; ``"float16"`` halves its memory.
            on_error: ``"raise"`` stops at the first image that cannot be read;
                ``"skip"`` returns what worked and the list of what did not.

        Returns:
            (N, D) unit rows in the order given; with ``"skip"`` a ``PartialEmbeddings``.

        Raises:
            ImageError: An image cannot be read; the message names it.

        Example:
            >>> clip = bareclip.load()
            >>> clip.images.embed(photos, dtype="float16").shape
            (2, 128)
        """
        kind = _checked_dtype(dtype, on_error)
        rows, kept, failures = [], [], []
        for index, (answer, vector) in enumerate(self._answers(images, batch_size)):
            if vector is not None:
                rows.append(vector.astype(kind))
                kept.append(index)
            elif on_error == "raise":
                raise answer[1]
            else:
                failures.append(Failure(index, describe(answer[0]), str(answer[1])))
        vectors = np.stack(rows) if rows else np.empty((0, self.width), kind)
        return vectors if on_error == "raise" else PartialEmbeddings(vectors, kept, failures)

    def stream(
        self, images: Iterable[ImageInput], *, batch_size: int | None = None
    ) -> Iterator[Vectors | Failure]:
        """Embeds images one after another, however many there are.

        Images are taken as they are needed, some batches ahead of what is asked for; closing
        the iterator, or leaving a loop over it, stops the work.

        Args:
            images: As for ``embed``; may be endless.
            batch_size: As for ``embed``.

        Yields:
            For each image, in order, its (D,) float32 unit vector, or a ``Failure``.

        Raises:
            ImageError: ``images`` is one image.

        Example:
            >>> clip = bareclip.load()
            >>> [vector, failure] = clip.images.stream([photos[0], b"no picture"])
            >>> vector.shape, failure.name
            ((128,), '10 bytes')
        """
        answers = self._answers(images, batch_size)

        def vectors() -> Iterator[Vectors | Failure]:
            with closing(answers):
                for index, ((image, error), vector) in enumerate(answers):
                    if vector is None:
                        yield Failure(index, describe(image), str(error))
                    else:
                        yield vector.copy()  # a row keeps the whole batch alive

        return vectors()

    def pixels(self, images: Iterable[ImageInput]) -> Iterator[Pixels | Failure]:
        """What the model is shown of images, read ahead in threads.

        Args:
            images: As for ``embed``.

        Yields:
            For each image, in order, (size, size, 3) uint8, RGB, or a ``Failure``.

        Raises:
            ImageError: ``images`` is one image.

        Example:
            >>> clip = bareclip.load()
            >>> [shown.shape for shown in clip.images.pixels(photos)]
            [(64, 64, 3), (64, 64, 3)]
        """
        several = _several_images(images)

        def found() -> Iterator[Pixels | Failure]:
            with closing(self._pool.map(self._read, several, 2 * self.batch_size)) as decoded:
                for index, ((image, error), shown) in enumerate(decoded):
                    yield Failure(index, describe(image), str(error)) if shown is None else shown

        return found()

    def embed_pixels(self, pixels: Pixels, *, batch_size: int | None = None) -> Vectors:
        """Embeds pictures that are pixels already, by the bundle's recipe.

        Args:
            pixels: (N, size, size, 3) uint8, RGB.
            batch_size: As for ``embed``.

        Returns:
            (N, D) float32, unit rows.

        Raises:
            ImageError: The pixels are of another shape or type.

        Example:
            >>> clip = bareclip.load()
            >>> size = clip.images.recipe.size
            >>> clip.images.embed_pixels(np.zeros((3, size, size, 3), np.uint8)).shape
            (3, 128)
        """
        size = self.recipe.size
        shape, kind = np.shape(pixels), getattr(pixels, "dtype", None)
        if shape[1:] != (size, size, 3) or kind != np.uint8:
            raise ImageError(
                f"pixels are {kind} of shape {shape}; this model takes uint8 of "
                f"(N, {size}, {size}, 3)"
            )
        step = _checked_batch_size(batch_size) or self.batch_size
        starts = range(0, len(pixels), step)
        batches = ((start, pixels[start : start + step]) for start in starts)
        none = np.empty((0, self.width), np.float32)
        return np.concatenate([none, *(rows for _, rows in self._tower.map(batches))])

    def embed_each(
        self,
        items: Iterable[Item],
        read: Callable[[Item], tuple[Answer, Pixels | None]],
        *,
        batch_size: int | None = None,
    ) -> Generator[tuple[Answer, Vectors | None]]:
        """Embeds whatever a function finds pixels in; what the others and the index stand on.

        Args:
            items: Taken as they are needed.
            read: (an item) -> what is to be handed on, and pixels (size, size, 3) uint8 or
                None. Called in threads; what it raises ends the work.
            batch_size: As for ``embed``.

        Yields:
            For each item, in order, what is handed on and its (D,) vector, or None.
        """
        size = _checked_batch_size(batch_size) or self.batch_size
        self._tower.check_process()
        return self._embed_each(items, read, size)

    def close(self) -> None:
        super().close()
        self._pool.close()

    def _embed_each(
        self,
        items: Iterable[Item],
        read: Callable[[Item], tuple[Answer, Pixels | None]],
        size: int,
    ) -> Generator[tuple[Answer, Vectors | None]]:
        decoded = self._pool.map(read, items, 2 * size)
        with closing(decoded):
            # The first pictures are being decoded while the tower is loaded.
            batches = self._tower.map(_batches(decoded, size))
            with closing(batches):
                for answers, vectors in batches:
                    rows = iter(() if vectors is None else vectors)
                    for answer, has_pixels in answers:
                        yield answer, next(rows) if has_pixels else None

    def _answers(
        self, images: Iterable[ImageInput], batch_size: int | None
    ) -> Generator[tuple[tuple[ImageInput, Any], Vectors | None]]:
        """Each image with the error that reading it raised, where it has no vector."""
        return self.embed_each(_several_images(images), self._read, batch_size=batch_size)

    def _read(self, image: ImageInput) -> tuple[tuple[ImageInput, Any], Pixels | None]:
        try:
            return (image, None), read_pixels(image, self.recipe, self.reading)
        except ImageError as error:
            return (image, error), None


def _several_images(images: Iterable[ImageInput]) -> Iterable[ImageInput]:
    if is_one_image(images):
        raise ImageError(
            f"images must be several; for one image, here {describe(images)}, pass [image]"
        )
    return images


def _batches(
    decoded: Iterable[tuple[Answer, Pixels | None]], size: int
) -> Iterator[tuple[list[tuple[Answer, bool]], Pixels | None]]:
    """Items in groups, each with a batch of the pixels that some of them have."""
    group: list[tuple[Answer, bool]] = []
    batch: list[Pixels] = []
    for answer, found in decoded:
        group.append((answer, found is not None))
        if found is not None:
            batch.append(found)
        if len(batch) == size or len(group) - len(batch) == _WAITING:
            yield group, np.stack(batch) if batch else None
            group, batch = [], []
    if group:
        yield group, np.stack(batch) if batch else None


class TextEncoder(_Encoder):
    """Texts to unit vectors; made by ``bareclip.load``, as ``clip.texts``.

    Attributes:
        recipe: How texts become tokens.

    Raises:
        BundleError: The bundle has no text tower, or not at that precision.
        DeviceError: The device cannot be had, or does not run that precision.

    Example:
        >>> clip = bareclip.load()
        >>> clip.texts.embed(["a cat", "a dog"]).shape
        (2, 128)
    """

    def __init__(self, bundle: Bundle, options: Options) -> None:
        self.recipe = bundle.text_recipe()
        super().__init__(bundle, "text", options)
        self._tokenizer_file = bundle.folder / TOKENIZER
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's own, read when it is first asked for.

        Raises:
            BundleError: Its file is damaged.
        """
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.load(self._tokenizer_file, self.recipe)
        return self._tokenizer

    def preload(self) -> None:
        """As ``ImageEncoder.preload``, and reads the tokenizer."""
        _ = self.tokenizer
        super().preload()

    @overload
    def embed(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = ...,
        batch_size: int | None = ...,
        dtype: DType = ...,
        on_error: Literal["raise"] = ...,
    ) -> Vectors: ...
    @overload
    def embed(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = ...,
        batch_size: int | None = ...,
        dtype: DType = ...,
        on_error: Literal["skip"],
    ) -> PartialEmbeddings: ...
    def embed(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = True,
        batch_size: int | None = None,
        dtype: DType = "float32",
        on_error: OnError = "raise",
    ) -> Vectors | PartialEmbeddings:
        """Embeds texts; short ones do not pay for long ones.

        Args:
            texts: N strings; any iterable.
            truncate: Cut texts at the model's context length, keeping the end token;
                False makes them an error.
            batch_size: Most texts in a batch; None is what suits the device.
            dtype: Of the result; ``"float16"`` halves its memory.
            on_error: ``"raise"`` stops where a text cannot be used; ``"skip"`` returns what
                worked and the list of what did not.

        Returns:
            (N, D) unit rows in the order given; with ``"skip"`` a ``PartialEmbeddings``.

        Raises:
            TextError: Something is not a string, or too long with ``truncate=False``.

        Example:
            >>> clip = bareclip.load()
            >>> found = clip.texts.embed(["a cat", None], on_error="skip")
            >>> found.kept, found.failures[0].reason
            ([0], 'a text must be a string, not NoneType: None')
        """
        kind = _checked_dtype(dtype, on_error)
        items = [*_several_texts(texts)]
        vectors, errors = self._embed(items, truncate, _checked_batch_size(batch_size))
        if on_error == "raise":
            for error in errors.values():
                raise error
            return vectors.astype(kind, copy=False)
        kept = [place for place in range(len(items)) if place not in errors]
        failures = [
            Failure(place, short(items[place]), str(error)) for place, error in errors.items()
        ]
        return PartialEmbeddings(vectors[kept].astype(kind, copy=False), kept, failures)

    def stream(
        self, texts: Iterable[str], *, truncate: bool = True, batch_size: int | None = None
    ) -> Iterator[Vectors | Failure]:
        """Embeds texts one after another, however many there are.

        Texts are taken some at a time, so that those that begin alike are computed together.

        Args:
            texts: Strings; may be endless.
            truncate, batch_size: As for ``embed``.

        Yields:
            For each text, in order, its (D,) float32 unit vector, or a ``Failure``.

        Raises:
            TextError: ``texts`` is one string.

        Example:
            >>> clip = bareclip.load()
            >>> lines = (f"a photo of {number} dogs" for number in range(1000))
            >>> sum(1 for vector in clip.texts.stream(lines))
            1000
        """
        size = _checked_batch_size(batch_size)
        items = iter(_several_texts(texts))
        self._tower.check_process()

        def vectors() -> Iterator[Vectors | Failure]:
            start, window = 0, _FIRST_WINDOW
            while some := [*islice(items, window)]:
                rows, errors = self._embed(some, truncate, size)
                for place, (text, row) in enumerate(zip(some, rows, strict=True)):
                    if place in errors:
                        yield Failure(start + place, short(text), str(errors[place]))
                    else:
                        yield row.copy()  # a row keeps the whole window alive
                start, window = start + len(some), min(2 * window, _LARGEST_WINDOW)

        return vectors()

    def embed_tokens(self, ids: NDArray[np.int64]) -> Vectors:
        """Embeds one batch of texts that are tokens already.

        Args:
            ids: (N, T) int64, each text with its start and end token, filled up with the
                recipe's ``pad_id``.

        Returns:
            (N, D) float32, unit rows.
        """
        return self._tower.get().run(ids)

    def batches(
        self, texts: Sequence[str], *, batch_size: int | None = None
    ) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        """The batches that ``embed`` would run: for who watches a tower at work.

        Yields:
            The texts' places in ``texts``, and (places, T) int64.

        Raises:
            TextError: A text cannot be used.
        """
        ids = self.tokenizer.encode(texts, truncate=True)
        return self.tokenizer.batches(ids, *self._limits(_checked_batch_size(batch_size)))

    def _limits(self, batch_size: int | None) -> tuple[int, int | None]:
        """Texts in a batch, and tokens, at most."""
        if batch_size is not None:
            return batch_size, None
        return (CUDA_TEXT_BATCH, None) if self._tower.on_cuda else (TEXT_BATCH, TEXT_ROWS)

    def _embed(
        self, texts: Sequence[str], truncate: bool, batch_size: int | None
    ) -> tuple[Vectors, dict[int, TextError]]:
        """(N, D) vectors, and by place the errors of those that have none."""
        self._tower.check_process()
        ids, errors = self.tokenizer.try_encode(texts, truncate)
        vectors = np.zeros((len(texts), self.width), np.float32)
        places = [place for place in range(len(texts)) if place not in errors]
        if not places:
            return vectors, errors
        batches = self.tokenizer.batches(ids, *self._limits(batch_size))
        for rows, found in self._tower.map(batches):
            vectors[[places[row] for row in rows]] = found
        return vectors, errors


def _several_texts(texts: Iterable[str]) -> Iterable[str]:
    if isinstance(texts, (str, bytes)) or not hasattr(texts, "__iter__"):
        raise TextError(f"texts must be several; for one text pass [{short(texts)}]")
    return texts


def _checked_dtype(dtype: DType, on_error: OnError) -> Any:
    if on_error not in get_args(OnError):
        raise BareclipError(f"on_error {on_error!r} is unknown; it is 'raise' or 'skip'")
    if dtype not in get_args(DType):
        raise BareclipError(f"dtype {dtype!r} is unknown; it is 'float32' or 'float16'")
    return np.dtype(dtype)


def _checked_batch_size(batch_size: int | None) -> int | None:
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise BareclipError(f"batch_size is {batch_size!r}; it must be at least 1, or None")
    return batch_size

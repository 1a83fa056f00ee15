"""ImageEncoder: pictures in, unit vectors out."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, Literal, TypeVar, get_args, overload

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import ImageError
from ..images.decoding import DecodePool
from ..images.inputs import ImageInput, describe, is_one_image
from ..images.pixels import Reading, read_pixels
from ..types import Failure, PartialEmbeddings, Vectors
from .encoder import DType, Encoder, OnError, Options, checked_batch_size, checked_dtype

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Pixels = NDArray[np.uint8]

IMAGE_BATCH = 8
# A GPU wants more work at once than a CPU: a guess that no GPU has judged yet.
CUDA_IMAGE_BATCH = 64
# Items without a picture, such as files that an index knows, that may wait for a batch to fill.
_WAITING = 64


class ImageEncoder(Encoder):
    """Pictures to unit vectors; made by ``bareclip.load``, as ``clip.images``.

    Attributes:
        recipe: How pictures become pixels.
        reading: How they are read; see ``bareclip.load``.
        max_pixels: Of a picture that is decoded; see ``bareclip.load``.
        batch_size: Pictures in a batch unless a call says otherwise.

    Raises:
        BundleError: The bundle has no vision tower, or not at that precision.
        DeviceError: The device cannot be had, or does not run that precision.

    Examples:
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
        self.max_pixels = options.max_pixels
        if type(self.max_pixels) is not int or self.max_pixels < 1:
            raise ImageError(f"max_pixels is {self.max_pixels!r}; it must be at least 1")
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

        Examples:
            >>> clip = bareclip.load()
            >>> clip.images.embed(photos, dtype="float16").shape
            (2, 128)
        """
        kind = checked_dtype(dtype, on_error)
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

        Examples:
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

        Examples:
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

        Examples:
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
        step = checked_batch_size(batch_size) or self.batch_size
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

        Examples:
            >>> clip = bareclip.load()
            >>> size = clip.images.recipe.size
            >>> def grey(value):
            ...     return value, np.full((size, size, 3), value, np.uint8) if value else None
            >>> [vector is None for value, vector in clip.images.embed_each([0, 128], grey)]
            [True, False]
        """
        size = checked_batch_size(batch_size) or self.batch_size
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
            shown = read_pixels(image, self.recipe, self.reading, max_pixels=self.max_pixels)
            return (image, None), shown
        except ImageError as error:
            return (image, error), None


def _several_images(images: Iterable[ImageInput]) -> Iterable[ImageInput]:
    if is_one_image(images):
        raise ImageError(
            f"images must be a list; for one image, here {describe(images)}, pass [image]"
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
        if not batch:
            yield group, None
            group = []
        elif len(batch) == size or len(group) - len(batch) == _WAITING:
            yield group, np.stack(batch)
            group, batch = [], []
    if batch:
        yield group, np.stack(batch)

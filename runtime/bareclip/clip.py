"""Clip: a loaded bundle that embeds images and texts and scores them."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import similarity as scoring
from .bundle import TOKENIZER, Bundle
from .errors import BareclipError, DeviceError, ImageError, TextError, VectorError
from .image_input import ImageInput, describe, is_one_image
from .preprocess import Reading, pixels_ahead
from .results import Failure, Hit, Item, PartialEmbeddings
from .session import Device, ProviderOption, Tower
from .threads import Threads, default_threads
from .tokenizer import Tokenizer
from .towers import load_towers
from .zero_shot import Ensemble, LabelMatrix, Prediction, label_matrix, ranked

Vectors = NDArray[np.float32]

DEMO = Path(__file__).parent / "demo"

IMAGE_BATCH = 8
# What is left of a batch of texts once what they have in common is computed once.
TEXT_BATCH, TEXT_ROWS = 256, 512
# A GPU wants more work at once than a CPU: a guess that no GPU has judged yet.
CUDA_IMAGE_BATCH = 64
CUDA_TEXT_BATCH = 256
MAX_THREADS = 1024


@dataclass(frozen=True)
class Options:
    """How a bundle is loaded; see ``load``."""

    precision: str | Mapping[str, str] = "auto"
    device: str = "auto"
    threads: int | None = None
    reading: Reading = "as_seen"
    cache: bool = True
    provider_options: Mapping[str, ProviderOption] | None = None
    spinning: bool = False


def load(
    bundle: str | os.PathLike[str] | None = None,
    precision: str | Mapping[str, str] = "auto",
    device: str = "auto",
    threads: int | None = None,
    reading: Reading = "as_seen",
    cache: bool = True,
    provider_options: Mapping[str, ProviderOption] | None = None,
    spinning: bool = False,
) -> "Clip":
    """Loads a bundle.

    Args:
        bundle: The folder that ``bareclip export`` made; None is the demo model, which
            knows drawn pictures and no photos.
        precision: One the bundle has: ``"fp32"``, ``"int8"``, ``"int4"``, ``"fp16"``; or one
            a tower, as in ``{"vision": "int8", "text": "fp32"}``. ``"auto"``, and a tower that
            is left out, is fp16 on CUDA where the bundle has it, else fp32, else what the
            bundle has.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"cuda:N,M"`` to share the work of
            several GPUs, an error where it cannot be had; ``"auto"`` takes CUDA if it is
            there, and warns if it is but does not start. ``Clip.device`` says which it is.
        threads: For ONNX Runtime and for decoding; None counts the physical cores this
            process may use and its container's CPU quota.
        reading: How pictures are read: ``"as_seen"`` by a person in a viewer, or
            ``"as_stored"``, as the reference processors do.
        cache: Keep a copy of large towers as this machine's ONNX Runtime wants them, in the
            user's cache, so that later processes start sooner and share their memory.
        provider_options: For ONNX Runtime's CUDA provider, over ours, such as
            ``{"gpu_mem_limit": 4 * 1024**3}`` for each tower; docs/cuda.md has more.
        spinning: Whether ONNX Runtime's threads wait for work in a loop: on an idle machine
            single images and texts come sooner, on a busy one all of it later; see
            docs/performance.md.

    Raises:
        BundleError: No bundle there, damaged, or without that precision.
        DeviceError: No ONNX Runtime, not on that device, options that it does not take, or
            a precision that does not run there: fp16 on the CPU, int8 on CUDA.
    """
    # Not expanduser(), which raises where there is no such user.
    folder = DEMO if bundle is None else Path(os.path.expanduser(bundle)).absolute()  # noqa: PTH111
    options = Options(precision, device, threads, reading, cache, provider_options, spinning)
    return Clip.load(folder, options)


class Clip:
    """A model that is ready to answer. May be used by many threads at once.

    It can be pickled when it came from ``load``: the copy loads the same bundle again.

    Attributes:
        bundle: The bundle's manifest.
        precision: tower -> the precision it runs at.
        device: ``"cpu"``, ``"cuda:N"`` or ``"cuda:N,M"``: where the towers run.
        threads: For one operator, and for decoding.
    """

    def __init__(
        self,
        bundle: Bundle,
        vision: Tower | None,
        text: Tower | None,
        tokenizer: Tokenizer | None,
        precision: dict[str, str],
        threads: int,
        options: Options,
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self.threads = threads
        self._vision = vision
        self._text = text
        self._tokenizer = tokenizer
        self._options = options

    @classmethod
    def load(cls, folder: Path, options: Options) -> "Clip":
        """Loads the bundle at ``folder``; raises what ``load`` raises."""
        bundle = Bundle.read(folder)
        threads = default_threads() if options.threads is None else options.threads
        # ONNX Runtime starts as many as it is told, were it a hundred thousand.
        if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
            raise BareclipError(f"threads is {threads!r}; it must be 1 to {MAX_THREADS}, or None")
        device = Device.parse(options.device, options.provider_options)
        wanted = options.precision, Threads(threads, options.spinning), options.cache
        try:
            precision, towers = load_towers(bundle, device, *wanted)
        except DeviceError as error:
            if device.required or not device.on_cuda:
                raise
            warnings.warn(f"{error}: this Clip runs on the CPU", RuntimeWarning, stacklevel=3)
            cpu = Device("cpu", required=False)
            precision, towers = load_towers(bundle, cpu, *wanted)
        vision, text, tokenizer = towers.get("vision"), towers.get("text"), None
        if bundle.text is not None:
            tokenizer = Tokenizer.load(bundle.folder / TOKENIZER, bundle.text)
        return cls(bundle, vision, text, tokenizer, precision, threads, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return Clip.load, (self.bundle.folder, self._options)

    def __repr__(self) -> str:
        return f"Clip({str(self.bundle.folder)!r}, device={self.device!r}, threads={self.threads})"

    @property
    def device(self) -> str:
        [first, *_] = (tower for tower in (self._vision, self._text) if tower is not None)
        return first.device

    @property
    def reading(self) -> Reading:
        """How pictures are read; see ``load``."""
        return self._options.reading

    @property
    def _on_cuda(self) -> bool:
        return self.device != "cpu"

    @overload
    def embed_images(
        self, images: Iterable[ImageInput], *, on_error: Literal["raise"] = ...
    ) -> Vectors: ...
    @overload
    def embed_images(
        self, images: Iterable[ImageInput], *, on_error: Literal["skip"]
    ) -> PartialEmbeddings: ...
    def embed_images(
        self, images: Iterable[ImageInput], *, on_error: Literal["raise", "skip"] = "raise"
    ) -> Vectors | PartialEmbeddings:
        """Embeds images, decoding the next ones while the model works on these.

        Args:
            images: N paths, bytes of files, binary files, PIL images or uint8 arrays
                (H, W, 3) or (H, W), in any mixture.
            on_error: ``"raise"`` stops at the first image that cannot be read;
                ``"skip"`` returns what worked and the list of what did not.

        Returns:
            (N, D) float32, unit rows in the order given; with ``"skip"`` a
            ``PartialEmbeddings``.

        Raises:
            ImageError: An image cannot be read; the message names it.
            BundleError: The bundle has no vision tower.
        """
        recipe = self.bundle.image_recipe()
        if on_error not in ("raise", "skip"):
            raise BareclipError(f"on_error {on_error!r} is unknown; it is 'raise' or 'skip'")
        if is_one_image(images):
            raise ImageError(
                f"images must be a list; for one image, here {describe(images)}, pass [image]"
            )
        kept: list[int] = []
        failures: list[Failure] = []
        size = CUDA_IMAGE_BATCH if self._on_cuda else IMAGE_BATCH
        reading = self._options.reading

        def batches() -> Iterator[NDArray[np.uint8]]:
            batch: list[NDArray[np.uint8]] = []
            read = pixels_ahead(images, recipe, reading, self.threads, 2 * size)
            for index, (image, decoded) in enumerate(read):
                if isinstance(decoded, ImageError):
                    if on_error == "raise":
                        raise decoded
                    failures.append(Failure(index, describe(image), str(decoded)))
                    continue
                kept.append(index)
                batch.append(decoded)
                if len(batch) == size:
                    yield np.stack(batch)
                    batch.clear()
            if batch:
                yield np.stack(batch)

        none = np.empty((0, self.bundle.embedding_dim), np.float32)
        vectors = np.concatenate([none, *cast(Tower, self._vision).map(batches())])
        return vectors if on_error == "raise" else PartialEmbeddings(vectors, kept, failures)

    def embed_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Embeds one batch of pictures that are pixels already, by the bundle's recipe.

        Args:
            pixels: (N, size, size, 3) RGB.

        Returns:
            (N, D) float32, unit rows.
        """
        self.bundle.image_recipe()  # or it has no vision tower
        return cast(Tower, self._vision).run(pixels)

    def embed_texts(self, texts: Iterable[str], *, truncate: bool = True) -> Vectors:
        """Embeds texts; short ones do not pay for long ones.

        Args:
            texts: N strings.
            truncate: Cut texts at the model's context length, keeping the end token;
                False makes them an error.

        Returns:
            (N, D) float32, unit rows in the order given.

        Raises:
            TextError: Something is not a string, or too long with ``truncate=False``.
            BundleError: The bundle has no text tower.
        """
        self.bundle.text_recipe()
        tower, tokenizer = cast(Tower, self._text), cast(Tokenizer, self._tokenizer)
        if isinstance(texts, str):
            raise TextError(f"texts must be a list; for one text pass [{texts!r}]")
        ids = tokenizer.encode(list(texts), truncate)
        vectors = np.empty((len(ids), self.bundle.embedding_dim), np.float32)
        limits = (CUDA_TEXT_BATCH, None) if self._on_cuda else (TEXT_BATCH, TEXT_ROWS)
        batches = [*tokenizer.batches(ids, *limits)]
        answers = tower.map(batch for _, batch in batches)
        for (places, _), rows in zip(batches, answers, strict=True):
            vectors[places] = rows
        return vectors

    def similarity(self, left: ArrayLike, right: ArrayLike) -> Vectors:
        """Cosine similarity of every row with every row.

        Args:
            left: (N, D) vectors of images or texts.
            right: (M, D) vectors of images or texts.

        Returns:
            (N, M), within [-1, 1].

        Raises:
            VectorError: The widths differ.
        """
        return scoring.cosine(left, right).astype(np.float32)

    def classifier(
        self,
        labels: Sequence[str],
        templates: str | Sequence[str] = "plain",
        ensemble: Ensemble = "embedding",
    ) -> "Classifier":
        """Embeds labels once, to classify many images with.

        Args:
            labels: Distinct names.
            templates: ``"plain"`` ("a photo of a {}"), ``"five"``, ``"imagenet"``
                (OpenAI's 80), one template of your own, or several.
            ensemble: ``"embedding"`` averages a label's vectors, ``"probability"``
                averages its probabilities.

        Raises:
            TextError: Labels, templates or ensemble that cannot be used.
        """
        return Classifier(self, label_matrix(labels, templates, ensemble, self.embed_texts))

    def classify(
        self,
        images: ImageInput | Sequence[ImageInput],
        labels: Sequence[str],
        templates: str | Sequence[str] = "plain",
        ensemble: Ensemble = "embedding",
        top: int | None = None,
    ) -> list[list[Prediction]]:
        """Zero-shot classification; ``classifier`` does it for many images in turn.

        Args:
            images: One image, or a list of them.
            labels, templates, ensemble: As for ``classifier``.
            top: Only the most probable; None gives all.

        Returns:
            For each image its labels, most probable first.

        Raises:
            ImageError, TextError: As for ``embed_images`` and ``classifier``.
        """
        return self.classifier(labels, templates, ensemble).classify(images, top)

    def search(
        self,
        query: str | ImageInput,
        vectors: ArrayLike,
        items: Sequence[Item],
        k: int = 10,
    ) -> list[Hit[Item]]:
        """The items whose vectors are most similar to a text or an image.

        Args:
            query: A string is a text; an image is a ``Path``, bytes, a binary file, a
                PIL image or an array.
            vectors: (M, D), one row an item.
            items: M of anything: names, paths, records.
            k: How many to return at most.

        Returns:
            Best first, ties in the order of ``items``.

        Raises:
            VectorError: Not a vector of this model for each item, or ``k`` is negative.
        """
        rows = np.asarray(vectors)
        if rows.shape != (len(items), self.bundle.embedding_dim):
            raise VectorError(
                f"search needs a vector of width {self.bundle.embedding_dim} for each item: "
                f"vectors are {rows.shape}, items {len(items)}"
            )
        text = isinstance(query, str)
        wanted = self.embed_texts([query]) if text else self.embed_images([query])  # type: ignore[list-item]
        scores = scoring.cosine(wanted, rows)[0]
        return [Hit(items[i], float(scores[i])) for i in scoring.top_k(scores, k)]


class Classifier:
    """Labels embedded once; made by ``Clip.classifier``."""

    def __init__(self, clip: Clip, matrix: LabelMatrix) -> None:
        self.labels = matrix.labels
        self._clip = clip
        self._matrix = matrix

    def probabilities(self, images: Vectors) -> NDArray[np.floating[Any]]:
        """Probabilities from image vectors.

        Args:
            images: (N, D) unit rows, as ``embed_images`` gives them.

        Returns:
            (N, L), columns in the order of ``labels``.
        """
        return self._matrix.probabilities(images, self._clip.bundle.scoring)

    def classify(
        self, images: ImageInput | Sequence[ImageInput], top: int | None = None
    ) -> list[list[Prediction]]:
        """As ``Clip.classify``."""
        several = images if isinstance(images, (list, tuple)) else [cast(ImageInput, images)]
        probabilities = self.probabilities(self._clip.embed_images(several))
        return [ranked(self.labels, row, top) for row in probabilities]

"""Clip: a loaded bundle that embeds images and texts and scores them."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bundle import TOWERS, Bundle
from .bundle.locate import find_bundle
from .classifier import Classifier, read_classifier
from .encoders import ImageEncoder, Options, TextEncoder, preload
from .encoders.fingerprint import Fingerprint
from .encoders.label_cache import SMALLEST_PROMPTS, LabelCache
from .errors import BareclipError, BundleError, VectorError
from .images.inputs import ImageInput
from .images.limits import MAX_PIXELS
from .images.pixels import Reading
from .scoring.heads import Head
from .scoring.nearest import corpus_rows, nearest
from .scoring.teaching import Examples, Method, teach
from .scoring.vectors import checked_rows, cosine, unit_rows
from .scoring.zero_shot import (
    Ensemble,
    LabelMatrix,
    Prompts,
    Templates,
    fill_in,
    probabilities,
)
from .types import Hit, Item, PartialEmbeddings, Prediction, TeachingReport, Vectors


def load(
    bundle: str | os.PathLike[str] | None = None,
    *,
    towers: Iterable[str] = TOWERS,
    preload: bool = False,
    precision: str | Mapping[str, str] = "auto",
    device: str = "auto",
    threads: int | None = None,
    reading: Reading = "as_seen",
    max_pixels: int = MAX_PIXELS,
    cache: bool = True,
    provider_options: Mapping[str, str | int | float | bool] | None = None,
    spinning: bool = False,
    language: str | None = None,
) -> "Clip":
    """Loads a bundle; each tower when it is first asked for.

    Of one on the Hub, the files of ``towers`` at their precisions are fetched now.

    Args:
        bundle: The folder that ``bareclip export`` made, or the Hub's name of one,
            ``"owner/name"`` or ``"owner/name@revision"``; None is the demo model, which
            knows drawn pictures and no photos.
        towers: Those that may be asked for, of ``"vision"`` and ``"text"``; of a bundle with
            one tower it has that one.
        preload: Load all of them now, as a service wants it, rather than at the first answer.
        precision: One the bundle has: ``"fp32"``, ``"int8"``, ``"int4"``, ``"fp16"``; or one
            per tower, as in ``{"vision": "int8", "text": "fp32"}``; or ``"bf16"``, which
            OpenVINO makes of fp32. ``"auto"``, and a tower
            that is left out, is fp16 on CUDA where the bundle has it, else fp32, else what the
            bundle has.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"cuda:N,M"`` to share the work of
            several GPUs, or ``"openvino"``, an error where it cannot be had; ``"auto"`` takes
            CUDA if it is there, and warns if it is but does not start, else the CPU.
            ``Clip.device`` says which it is.
        threads: For ONNX Runtime or OpenVINO, and for decoding; None counts the physical cores this
            process may use and its container's CPU quota.
        reading: How pictures are read: ``"as_seen"`` by a person in a viewer, or
            ``"as_stored"``, as the reference processors do.
        max_pixels: A picture of which more would be decoded is refused before it is, as a
            decompression bomb; docs/bundle.md says what counts. The default is what cameras of
            100 megapixels and phones of 108 make.
        cache: Keep a copy of large towers as this machine's ONNX Runtime wants them, and what
            was made of many labels, in the user's cache, so that later processes start sooner
            and share their memory.
        provider_options: For ONNX Runtime's CUDA provider, over ours, such as
            ``{"gpu_mem_limit": 4 * 1024**3}`` for each tower; docs/cuda.md has more.
        spinning: Whether ONNX Runtime's threads wait for work in a loop: on an idle machine
            single images and texts come sooner, on a busy one all of it later; see
            docs/performance.md.
        language: What texts are said to be in, such as ``"kor_Hang"``, for models whose texts
            begin with that; None is the checkpoint's own, English as a rule. An error for
            other models. ``clip.texts.tokenizer.languages`` has those that a model knows.

    Raises:
        BundleError: No bundle there, damaged, or without that precision or tower.
        DeviceError: No ONNX Runtime, not on that device, options that it does not take, or
            a precision that does not run there: fp16 on the CPU, int8 on CUDA, bf16 anywhere
            but on OpenVINO and a processor that has it.
        TextError: The model knows no such language.

    Examples:
        >>> with bareclip.load() as clip:
        ...     clip.embed_texts(["a cat", "a dog"]).shape
        (2, 128)
    """
    options = Options(
        precision=precision,
        device=device,
        threads=threads,
        reading=reading,
        max_pixels=max_pixels,
        cache=cache,
        provider_options=provider_options,
        spinning=spinning,
        language=language,
    )
    clip = Clip(Bundle.read(find_bundle(bundle), whole=False), options, towers)
    if preload:
        clip.preload()
    return clip


class Clip:
    """A model that is ready to answer. May be used by many threads at once.

    It can be pickled: the copy loads the same bundle again. ``close`` it, or use it in a
    ``with``, to give its memory back before Python would.

    Attributes:
        bundle: The bundle's manifest.
        threads: For one operator, and for decoding.

    Examples:
        >>> clip = bareclip.load()
        >>> clip.classify(photos, ["cat", "dog"], top=1)[0][0].label
        'cat'
    """

    def __init__(
        self, bundle: Bundle, options: Options | None = None, towers: Iterable[str] = TOWERS
    ) -> None:
        """Takes a bundle that was read; raises what ``load`` raises."""
        self.bundle = bundle
        self._options = options or Options()
        self._towers = _checked_towers(towers, bundle)
        self._images = ImageEncoder(bundle, self._options) if "vision" in self._towers else None
        self._texts = TextEncoder(bundle, self._options) if "text" in self._towers else None
        self.threads = self._encoders[0].threads

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (self.bundle.folder, self._options, self._towers)

    def __repr__(self) -> str:
        device = self._options.device
        if device == "auto" and not self._encoders[0].on_cuda:
            device = "cpu"
        return f"Clip({str(self.bundle.folder)!r}, device={device!r}, threads={self.threads})"

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives memory and threads back; after that it answers nothing."""
        for encoder in self._encoders:
            encoder.close()

    def preload(self) -> None:
        """Loads all its towers now, at once; raises what ``load`` raises.

        Examples:
            >>> clip = bareclip.load()
            >>> clip.preload()  # before a service says that it is ready
        """
        preload(self._encoders)

    @property
    def images(self) -> ImageEncoder:
        """What embeds images, also one after another: ``clip.images.stream(photos)``.

        Raises:
            BundleError: There is no vision tower, or it was not asked for.
        """
        if self._images is None:
            self.bundle.image_recipe()
            raise _not_asked_for("vision", "images")
        return self._images

    @property
    def texts(self) -> TextEncoder:
        """What embeds texts, also one after another: ``clip.texts.stream(lines)``.

        Raises:
            BundleError: There is no text tower, or it was not asked for.
        """
        if self._texts is None:
            self.bundle.text_recipe()
            raise _not_asked_for("text", "texts")
        return self._texts

    @property
    def device(self) -> str:
        """``"cpu"``, ``"cuda:N"``, ``"cuda:N,M"`` or ``"openvino"``: where the towers run."""
        return self._encoders[0].device

    @property
    def precision(self) -> dict[str, str]:
        """Tower -> the precision it runs at."""
        names = zip(self._towers, self._encoders, strict=True)
        return {name: encoder.precision for name, encoder in names}

    @property
    def reading(self) -> Reading:
        """How pictures are read; see ``load``."""
        return self._options.reading

    @property
    def _encoders(self) -> list[ImageEncoder | TextEncoder]:
        return [encoder for encoder in (self._images, self._texts) if encoder is not None]

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

        The short way; ``clip.images`` has batch sizes, other types and streams.

        Args:
            images: N paths, bytes of files, binary files, PIL images or uint8 arrays
                (H, W, 3) or (H, W), in any mixture; any iterable.
            on_error: ``"raise"`` stops at the first image that cannot be read;
                ``"skip"`` returns what worked and the list of what did not.

        Returns:
            (N, D) float32, unit rows in the order given; with ``"skip"`` a
            ``PartialEmbeddings``.

        Raises:
            ImageError: An image cannot be read; the message names it.
            BundleError: The bundle has no vision tower.

        Examples:
            >>> clip = bareclip.load()
            >>> clip.embed_images(photos).shape
            (2, 128)
        """
        return self.images.embed(images, on_error=on_error)

    def embed_texts(self, texts: Iterable[str], *, truncate: bool = True) -> Vectors:
        """Embeds texts; short ones do not pay for long ones.

        The short way; ``clip.texts`` has batch sizes, other types and streams.

        Args:
            texts: N strings; any iterable.
            truncate: Cut texts at the model's context length, keeping the end token;
                False makes them an error.

        Returns:
            (N, D) float32, unit rows in the order given.

        Raises:
            TextError: Something is not a string, or too long with ``truncate=False``.
            BundleError: The bundle has no text tower.

        Examples:
            >>> clip = bareclip.load()
            >>> clip.embed_texts(["a cat", "a dog"]).shape
            (2, 128)
        """
        return self.texts.embed(texts, truncate=truncate)

    def similarity(self, left: ArrayLike, right: ArrayLike) -> Vectors:
        """Cosine similarity of every row with every row.

        Args:
            left: (N, D) vectors of images or texts, of any length.
            right: (M, D) vectors of images or texts.

        Returns:
            (N, M), within [-1, 1].

        Raises:
            VectorError: Not rows, of different widths, or not finite.

        Examples:
            >>> clip = bareclip.load()
            >>> images, texts = clip.embed_images(photos), clip.embed_texts(["a cat", "a dog"])
            >>> clip.similarity(images, texts).argmax(axis=1)
            array([0, 1])
        """
        rows = checked_rows(left, "left vectors"), checked_rows(right, "right vectors")
        return cosine(*rows).astype(np.float32)

    def probabilities(self, images: ArrayLike, texts: ArrayLike) -> NDArray[np.floating[Any]]:
        """How probable the model finds each text for each image, from their vectors.

        Args:
            images: (N, D) vectors.
            texts: (M, D) vectors of whole prompts.

        Returns:
            (N, M). Rows sum to one where the model was trained with a softmax, as CLIP; a
            SigLIP judges each pair alone.

        Raises:
            VectorError: Not rows of this model's width, not finite, or zero.

        Examples:
            >>> clip = bareclip.load()
            >>> texts = clip.embed_texts(["a photo of a cat", "a photo of a dog"])
            >>> clip.probabilities(clip.embed_images(photos), texts).shape
            (2, 2)
        """
        width, scoring = self.bundle.embedding_dim, self.bundle.scoring
        rows = unit_rows(images, "image vectors", width), unit_rows(texts, "text vectors", width)
        return probabilities(*rows, scoring)

    def classifier(
        self,
        labels: Iterable[str],
        *,
        templates: Templates = "plain",
        ensemble: Ensemble = "embedding",
    ) -> "Classifier":
        """Embeds labels once, to classify many images with.

        Args:
            labels: Names; one that is given twice is two columns, and a warning.
            templates: ``"plain"`` ("a photo of a {}"), ``"five"``, ``"imagenet"``
                (OpenAI's 80), one template of your own, or several; a template is a string
                or a function from a label to a prompt.
            ensemble: ``"embedding"`` averages a label's vectors, ``"probability"``
                averages its probabilities.

        Raises:
            TextError: Labels, templates or ensemble that cannot be used.

        Examples:
            >>> clip = bareclip.load()
            >>> classifier = clip.classifier(["cat", "dog"], templates="five")
            >>> [best[0].label for best in classifier.classify(photos, top=1)]
            ['cat', 'dog']
        """
        matrix = self._label_matrix(fill_in(labels, templates, ensemble))
        return self._classifier(Head(matrix, self.bundle.scoring))

    @property
    def fingerprint(self) -> Fingerprint:
        """What its vectors depend on, as indexes and classifiers remember it.

        Raises:
            BundleError: The bundle has no vision tower.
        """
        return Fingerprint.of(self, "exact")

    def _classifier(self, head: Head, taught: TeachingReport | None = None) -> Classifier:
        made_by = self.fingerprint if "vision" in self.bundle.towers else None
        return Classifier(head, made_by, self.embed_images, taught)

    def _label_matrix(self, asked: Prompts) -> LabelMatrix:
        """Embeds prompts; where they are many, unless the user's cache has their matrix."""
        keeps = self._options.cache and len(asked.texts) >= SMALLEST_PROMPTS
        cache = LabelCache(self.bundle, self.texts) if keeps else None
        matrix = cache.find(asked) if cache else None
        if matrix is None:
            matrix = asked.matrix(self.embed_texts(asked.texts))
            if cache:
                cache.keep(asked, matrix)
        return matrix

    def classify(
        self,
        images: ImageInput | Iterable[ImageInput],
        labels: Iterable[str],
        *,
        templates: Templates = "plain",
        ensemble: Ensemble = "embedding",
        top: int | None = None,
    ) -> list[list[Prediction]]:
        """Zero-shot classification; ``classifier`` does it for many images in turn.

        Args:
            images: One image, or several.
            labels, templates, ensemble: As for ``classifier``.
            top: Only the most probable; None gives all.

        Returns:
            For each image its labels, most probable first.

        Raises:
            ImageError, TextError: As for ``embed_images`` and ``classifier``.

        Examples:
            >>> clip = bareclip.load()
            >>> clip.classify(photos[0], ["cat", "dog"])[0][0].label
            'cat'
        """
        asked = fill_in(labels, templates, ensemble)
        if len(asked.texts) < SMALLEST_PROMPTS and not any(e.loaded for e in self._encoders):
            self.preload()  # both at once, since both are needed
        matrix = self._label_matrix(asked)
        return self._classifier(Head(matrix, self.bundle.scoring)).classify(images, top=top)

    def teach(
        self,
        examples: Mapping[str, Iterable[ImageInput] | Vectors],
        *,
        method: Method = "linear",
        templates: Templates = "plain",
    ) -> "Classifier":
        """Teaches a classifier with examples, starting from what its labels' texts say.

        Cross-validated: ``Classifier.taught`` says how often the texts alone and what was taught
        were right about examples held out, and which of them it is. Its probabilities are
        calibrated on those. Needs ``bareclip[teach]``; the classifier, to answer, does not.

        Args:
            examples: By label, two or more pictures as ``embed_images`` takes them, or their
                (N, D) vectors.
            method: ``"linear"``, a linear probe, or ``"cache"``, which compares with the
                examples themselves; docs/classifiers.md has both.
            templates: As for ``classifier``.

        Raises:
            ClassifierError: One class, a class with fewer than two examples, or no SciPy.
            ImageError, TextError, VectorError: As for ``embed_images`` and ``classifier``.

        Examples:
            >>> clip = bareclip.load()
            >>> vectors = clip.embed_images(photos)
            >>> pets = clip.teach({"cat": vectors[[0, 0, 0]], "dog": vectors[[1, 1, 1]]})
            >>> pets.taught.zero_shot_accuracy, pets.taught.method
            (1.0, 'zero-shot')
        """
        matrix = self._label_matrix(fill_in(examples, templates, "embedding"))
        rows = [self._example_rows(given) for given in examples.values()]
        places = np.repeat(np.arange(len(rows)), [len(some) for some in rows])
        scale = float(np.exp(self.bundle.scoring.logit_scale))
        given = Examples(np.concatenate(rows), places, matrix, scale)
        head, report = teach(given, method)
        return self._classifier(head, report)

    def _example_rows(self, given: Iterable[ImageInput] | Vectors) -> Vectors:
        if isinstance(given, np.ndarray) and given.dtype.kind == "f":
            rows = unit_rows(given, "example vectors", self.bundle.embedding_dim)
            return rows.astype(np.float32, copy=False)
        return self.embed_images(given)

    def search(
        self,
        vectors: ArrayLike,
        items: Iterable[Item],
        *,
        text: str | None = None,
        image: ImageInput | None = None,
        k: int = 10,
    ) -> list[Hit[Item]]:
        """The items whose vectors are most similar to a text or to an image.

        Args:
            vectors: (M, D), a row per item. A float32 array of unit rows, as ``embed_images``
                gives it, is looked through when it is first given and used as it is from then
                on; others are brought to that at every call.
            items: M of anything: names, paths, records.
            text, image: What is looked for: one of the two.
            k: How many to return at most.

        Returns:
            Best first, ties in the order of ``items``.

        Raises:
            VectorError: Not a vector of this model for each item, or ``k`` is negative.

        Examples:
            >>> clip = bareclip.load()
            >>> vectors = clip.embed_images(photos)
            >>> clip.search(vectors, ["cat.png", "dog.png"], text="a dog", k=1)[0].item
            'dog.png'
        """
        if (text is None) == (image is None):
            raise BareclipError("search wants one of text= and image=, such as text='a sunset'")
        if type(k) is not int or k < 0:
            raise VectorError(f"k is {k!r}; it must be 0 or more")
        rows, names = corpus_rows(vectors, self.bundle.embedding_dim), list(items)
        if len(rows) != len(names):
            raise VectorError(
                f"search needs a vector for each item: vectors are {rows.shape}, items {len(names)}"
            )
        wanted = self.embed_images([image]) if image is not None else self.embed_texts([str(text)])
        [(places, scores)] = nearest([rows], wanted, k)
        return [Hit(names[i], float(score)) for i, score in zip(places, scores, strict=True)]


def load_classifier(path: str | os.PathLike[str], clip: Clip | None = None) -> Classifier:
    """Reads a classifier that ``Classifier.save`` wrote; needs no text tower.

    Args:
        path: The file.
        clip: The model that is to embed pictures for it, at any precision; None where it will
            be asked about vectors only.

    Raises:
        ClassifierError: The file cannot be read, is damaged, or is of another model.

    Examples:
        >>> bareclip.load().classifier(["cat", "dog"]).save(folder / "pets.npz")
        >>> seeing = bareclip.load(towers=["vision"])
        >>> pets = bareclip.load_classifier(folder / "pets.npz", seeing)
        >>> pets.classify(photos[0], top=1)[0][0].label
        'cat'
    """
    found = read_classifier(path)
    if clip is None:
        return found
    found.check_model(clip.fingerprint)
    return Classifier(found.head, found.made_by, clip.embed_images, found.taught)


def _load_again(folder: Path, options: Options, towers: tuple[str, ...]) -> Clip:
    return Clip(Bundle.read(folder, whole=False), options, towers)


def _checked_towers(towers: Iterable[str], bundle: Bundle) -> tuple[str, ...]:
    wanted = (towers,) if isinstance(towers, str) else tuple(towers)
    if not wanted or not set(wanted) <= set(TOWERS):
        raise BareclipError(f"towers are {wanted!r}; they are some of {', '.join(TOWERS)}")
    found = tuple(name for name in bundle.towers if name in wanted)
    if not found:
        raise BundleError(
            f"{bundle.folder} has a {bundle.towers[0]} tower only, and {wanted[0]} was asked for; "
            "use a bundle of the whole model"
        )
    return found


def _not_asked_for(tower: str, what: str) -> BundleError:
    return BundleError(
        f"this Clip was loaded without its {tower} tower, so it embeds no {what}; "
        f"load it with that: bareclip.load(..., towers=({tower!r},)), or without towers="
    )

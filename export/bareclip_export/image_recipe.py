"""The image recipe and the tokenizer of a checkpoint, from its processor's files."""

from typing import Any, Literal

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from bareclip.bundle import ImageRecipe, Interpolation, TextRecipe

from .checkpoint import Checkpoint
from .errors import CheckpointError

# Pillow's numbers for its filters, which preprocessor_config.json uses.
_RESAMPLING: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
# openai/CLIP, clip/clip.py; transformers' defaults where a config leaves them out.
_MEAN = [0.48145466, 0.4578275, 0.40821073]
_STD = [0.26862954, 0.26130258, 0.27577711]


def read_image_recipe(checkpoint: Checkpoint, image_size: int) -> ImageRecipe:
    """What the checkpoint's CLIPImageProcessor does, as a recipe.

    Args:
        checkpoint: With a preprocessor_config.json (or the processor_config.json of
            newer transformers).
        image_size: Pixels a side that the vision tower takes.

    Raises:
        CheckpointError: No such file, a step we do not reproduce, an unknown
            resampling, or a crop of another size than the tower's.
    """
    config = checkpoint.json("preprocessor_config.json")
    where = f"{checkpoint.folder}/preprocessor_config.json"
    if config is None:
        nested = (checkpoint.json("processor_config.json") or {}).get("image_processor")
        if not isinstance(nested, dict):
            raise CheckpointError(
                f"{checkpoint.name} has no preprocessor_config.json, so how its images are "
                "prepared is unknown; take it from the model this one was trained from"
            )
        config = nested
    if not config.get("do_resize", True):
        raise CheckpointError(f"{where} has do_resize false; we need a resize to {image_size}")
    size = config.get("size", image_size)
    resize: Literal["shortest", "squash"] = "shortest"
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        size = size["shortest_edge"]
    elif isinstance(size, dict) and set(size) == {"height", "width"}:
        resize, size = "squash", _square(size, where)
    crop = _square(config.get("crop_size", image_size), where)
    if not config.get("do_center_crop", True):
        if resize == "shortest":
            raise CheckpointError(f"{where} neither crops nor squashes to a square")
        crop = size
    if crop != image_size or type(size) is not int or size < crop:
        raise CheckpointError(
            f"{where} resizes to {size!r} and crops to {crop}, where the vision tower "
            f"takes {image_size}: they do not belong together"
        )
    normalize = config.get("do_normalize", True)
    scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    std = _channels(config.get("image_std", _STD) if normalize else [1.0] * 3, where)
    if type(scale) not in (int, float) or not 0 < scale <= 1 or min(std) <= 0:
        raise CheckpointError(
            f"{where} has rescale_factor {scale!r} and image_std {std}; a factor is such as 1/255, "
            "and standard deviations are above 0"
        )
    return ImageRecipe(
        size=image_size,
        resize=resize,
        resize_to=size,
        interpolation=_interpolation(config.get("resample", 3), where),
        crop_offset="floor",
        mean=_channels(config.get("image_mean", _MEAN) if normalize else [0.0] * 3, where),
        std=std,
        scale=float(scale),
        layout="uint8_nhwc",
    )


def _interpolation(value: Any, where: str) -> Interpolation:
    if type(value) is not int or value not in _RESAMPLING:
        known = ", ".join(f"{number} ({name})" for number, name in _RESAMPLING.items())
        raise CheckpointError(f"{where} has the unknown resampling {value!r}; known are {known}")
    return _RESAMPLING[value]


def _square(size: Any, where: str) -> int:
    if isinstance(size, dict) and set(size) == {"height", "width"} and len({*size.values()}) == 1:
        size = size["height"]
    if type(size) is not int or size < 1:
        raise CheckpointError(f"{where} has the size {size!r}; we author square images")
    return size


def _channels(values: Any, where: str) -> tuple[float, float, float]:
    if (
        isinstance(values, list)
        and len(values) == 3
        and all(isinstance(v, (int, float)) for v in values)
    ):
        return (float(values[0]), float(values[1]), float(values[2]))
    raise CheckpointError(f"{where} has {values!r} where three numbers are due")


def read_tokenizer(
    checkpoint: Checkpoint, context_length: int, vocabulary: int, end_id: int | None
) -> tuple[tokenizers.Tokenizer, TextRecipe]:
    """The checkpoint's tokenizer, from tokenizer.json or from vocab.json and merges.txt.

    Raises:
        CheckpointError: Neither is there, or it is damaged, has ids beyond the token
            table's ``vocabulary`` rows, or ends a text with another token than ``end_id``,
            which the model pools.
    """
    path = checkpoint.folder / "tokenizer.json"
    try:
        if path.is_file():
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        else:
            tokenizer = _from_vocabulary(checkpoint)
    except CheckpointError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"cannot read the tokenizer in {checkpoint.folder}: {error}") from (
            error
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    empty = tokenizer.encode("").ids
    if len(empty) < 2:
        raise CheckpointError(
            f"the tokenizer in {checkpoint.folder} puts no start and end token around a text"
        )
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocabulary:
        raise CheckpointError(
            f"the tokenizer in {checkpoint.folder} has ids up to {largest}, the model's "
            f"token table {vocabulary} rows: they do not belong together"
        )
    end = empty[-1]
    # Verification could not see this: every text would pool its first token, in both.
    if end_id is not None and end_id != end:
        raise CheckpointError(
            f"config.json of {checkpoint.folder} says texts end with token {end_id}, its "
            f"tokenizer ends them with {end}: set eos_token_id of text_config to {end}"
        )
    # The end token itself fills a batch up: nothing after the first one is looked at,
    # whichever way the end is found.
    return tokenizer, TextRecipe(context_length=context_length, pad_id=end, end_id=end)


def _from_vocabulary(checkpoint: Checkpoint) -> tokenizers.Tokenizer:
    """CLIP's tokenizer from its slow form.

    The same steps as transformers' converter (convert_slow_tokenizer.py, CLIPConverter).
    """
    vocab = checkpoint.json("vocab.json")
    merges_path = checkpoint.folder / "merges.txt"
    if vocab is None or not merges_path.is_file():
        raise CheckpointError(
            f"{checkpoint.name} has no tokenizer: neither tokenizer.json nor vocab.json and "
            "merges.txt; take them from the model this one was trained from"
        )
    start, end = "<|startoftext|>", "<|endoftext|>"
    if start not in vocab or end not in vocab:
        raise CheckpointError(f"{checkpoint.folder}/vocab.json has no {start} or no {end}")
    lines = merges_path.read_text(encoding="utf-8").splitlines()
    merges = [
        (left, right)
        for left, _, right in (line.partition(" ") for line in lines if line.strip())
        if not left.startswith("#version")
    ]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            unk_token=end,
        )
    )
    tokenizer.add_special_tokens([start, end])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocab[end]),
        (start, vocab[start]),
        add_prefix_space=False,
        trim_offsets=False,
    )
    return tokenizer

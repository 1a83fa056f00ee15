"""The image recipe of a checkpoint in Hugging Face's layout, from its processor's file."""

from typing import Any, Literal

from bareclip.bundle import ImageRecipe, Interpolation
from bareclip.errors import short

from .checkpoint import Checkpoint
from .errors import CheckpointError

# Pillow's numbers for its filters, which preprocessor_config.json uses.
RESAMPLING: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
# A side in pixels; no CLIP's is near. Memory goes with its square, and attention's with its fourth.
LARGEST_IMAGE = 2048
# openai/CLIP, clip/clip.py.
OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073]
OPENAI_STD = [0.26862954, 0.26130258, 0.27577711]
# transformers 4.57, image_processing_*.py: what a processor's file may leave out.
_PROCESSORS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": {
        "do_center_crop": True,
        "image_mean": OPENAI_MEAN,
        "image_std": OPENAI_STD,
    },
    "SiglipImageProcessor": {
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    },
}
# Of the same pixels: an older name, and variants that differ in how they compute.
_ALIASES = dict.fromkeys(
    ("CLIPFeatureExtractor", "ChineseCLIPImageProcessor", "ChineseCLIPFeatureExtractor"),
    "CLIPImageProcessor",
)
_VARIANTS = ("Fast", "Pil")


def read_image_recipe(
    checkpoint: Checkpoint, image_size: int, processor: str = "CLIPImageProcessor"
) -> ImageRecipe:
    """What the checkpoint's image processor does, as a recipe.

    Args:
        checkpoint: With a preprocessor_config.json (or the processor_config.json of
            newer transformers).
        image_size: Pixels a side that the vision tower takes.
        processor: Its name where the file does not say.

    Raises:
        CheckpointError: No such file, an unknown processor, a step we do not reproduce, an unknown
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
    if image_size > LARGEST_IMAGE:
        raise CheckpointError(
            f"{checkpoint.config_path} has images of {image_size} pixels a side; we author up to "
            f"{LARGEST_IMAGE}"
        )
    config = _defaults(config, processor, where) | config
    if not config.get("do_resize", True):
        raise CheckpointError(f"{where} has do_resize false; we need a resize to {image_size}")
    size = config.get("size", image_size)
    resize: Literal["shortest", "squash"] = "shortest"
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        size = size["shortest_edge"]
    elif isinstance(size, dict) and set(size) == {"height", "width"}:
        resize, size = "squash", _square(size, where)
    crop = _square(config.get("crop_size", image_size), where)
    if not config["do_center_crop"]:
        if resize == "shortest":
            raise CheckpointError(f"{where} neither crops nor squashes to a square")
        crop = size
    if crop != image_size or type(size) is not int or size < crop:
        raise CheckpointError(
            f"{where} resizes to {short(size)} and crops to {crop}, where the vision tower "
            f"takes {image_size}: they do not belong together"
        )
    normalize = config.get("do_normalize", True)
    scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    std = _channels(config["image_std"] if normalize else [1.0] * 3, where)
    if type(scale) not in (int, float) or not 0 < scale <= 1 or min(std) <= 0:
        raise CheckpointError(
            f"{where} has rescale_factor {short(scale)} and image_std {std}; a factor is such as "
            "1/255, "
            "and standard deviations are above 0"
        )
    return ImageRecipe(
        size=image_size,
        resize=resize,
        resize_to=size,
        interpolation=_interpolation(config.get("resample", 3), where),
        crop_offset="floor",
        mean=_channels(config["image_mean"] if normalize else [0.0] * 3, where),
        std=std,
        scale=float(scale),
        layout="uint8_nhwc",
    )


def _defaults(config: dict[str, Any], processor: str, where: str) -> dict[str, Any]:
    named = config.get("image_processor_type") or config.get("feature_extractor_type") or processor
    name = str(named)
    for variant in _VARIANTS:
        name = name.removesuffix(variant)
    name = _ALIASES.get(name, name)
    if name not in _PROCESSORS:
        raise CheckpointError(
            f"{where} has the unknown image processor {short(named)}; known are "
            f"{', '.join(_PROCESSORS)}"
        )
    return _PROCESSORS[name]


def _interpolation(value: Any, where: str) -> Interpolation:
    if type(value) is not int or value not in RESAMPLING:
        known = ", ".join(f"{number} ({name})" for number, name in RESAMPLING.items())
        raise CheckpointError(
            f"{where} has the unknown resampling {short(value)}; known are {known}"
        )
    return RESAMPLING[value]


def _square(size: Any, where: str) -> int:
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        size = size["height"] if size["height"] == size["width"] else size
    if type(size) is not int or size < 1:
        raise CheckpointError(f"{where} has the size {short(size)}; we author square images")
    return size


def _channels(values: Any, where: str) -> tuple[float, float, float]:
    if (
        isinstance(values, list)
        and len(values) == 3
        and all(type(v) in (int, float) and abs(v) < 1e6 for v in values)
    ):
        return (float(values[0]), float(values[1]), float(values[2]))
    raise CheckpointError(f"{where} has {short(values)} where three numbers are due")

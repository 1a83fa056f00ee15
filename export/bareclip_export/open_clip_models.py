"""OpenCLIP's models by name, for weights that lie apart from any configuration.

``open_clip_models.json`` has what open_clip 3.3 knows under each name, where it differs from
open_clip's defaults, and of published weights how their pictures are prepared.
"""

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any

from bareclip.errors import short

from .errors import CheckpointError
from .tensors import Tensor

_QUICK = "-quickgelu"


@cache
def models() -> dict[str, dict[str, Any]]:
    """Name -> ``model_cfg``, and ``tags``: of published weights by name."""
    data = Path(__file__).with_suffix(".json").read_text("utf-8")
    found: dict[str, dict[str, Any]] = json.loads(data)
    return found


def config_of_name(name: str) -> dict[str, Any]:
    """An open_clip_config.json of a model.

    Args:
        name: Such as ``ViT-B-32``; or ``ViT-B-16-SigLIP__webli``, where the weights descend from
            published ones, whose pictures are then prepared as theirs are.

    Raises:
        CheckpointError: No such model or weights; or the weights have to be said, since all that
            are published have their pictures prepared in another way than open_clip's default.
    """
    model, _, tag = name.partition("__")
    tag = tag.replace("-", "_")  # as open_clip takes either for the other
    if model not in models():
        near = difflib.get_close_matches(model, models(), 4, 0.4) or ["ViT-B-32", "ViT-L-14"]
        raise CheckpointError(
            f"--model {short(name)} is none of OpenCLIP's names, such as {', '.join(near)}"
        )
    tags = (models().get(model.removesuffix(_QUICK)) or models()[model]).get("tags", {})
    if tag and tag not in tags:
        known = ", ".join(tags) or "none"
        raise CheckpointError(
            f"{model} has no published weights {short(tag)}; known are {known[:300]}"
        )
    if not tag and tags and all(given.get("preprocess_cfg") for given in tags.values()):
        raise CheckpointError(
            f"how pictures are prepared for this {model} is unknown: open_clip's default differs "
            f"from all published weights'. Give --model {model}__{next(iter(tags))} if it descends "
            "from those; if not, put an open_clip_config.json with model_cfg and preprocess_cfg "
            "beside it, and leave out --model"
        )
    given = tags.get(tag, {})
    quick = {"quick_gelu": True} if given.get("quick_gelu") else {}
    return {
        "model_cfg": models()[model]["model_cfg"] | quick,
        "preprocess_cfg": given.get("preprocess_cfg", {}),
    }


def config_of_openai(tensors: dict[str, Tensor]) -> dict[str, Any] | None:
    """An open_clip_config.json of OpenAI's archives, which hold their sizes in tensors' shapes.

    Heads are 64 wide in all of them (openai/CLIP, clip/model.py, build_model); None where the
    tensors are not such a model's.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}

    def count(start: str, part: int) -> int:
        return len({name.split(".")[part] for name in shapes if name.startswith(start)})

    try:
        context, text_width = shapes["positional_embedding"]
        vision: dict[str, Any]
        if "visual.proj" in shapes:
            width, _, _, patch = shapes["visual.conv1.weight"]
            side = round((shapes["visual.positional_embedding"][0] - 1) ** 0.5)
            layers: int | list[int] = count("visual.transformer.resblocks.", 3)
            vision = {"width": width, "patch_size": patch, "image_size": side * patch}
        else:
            width = shapes["visual.layer1.0.conv1.weight"][0]
            side = round((shapes["visual.attnpool.positional_embedding"][0] - 1) ** 0.5)
            layers = [count(f"visual.layer{stage}.", 2) for stage in (1, 2, 3, 4)]
            vision = {"width": width, "patch_size": None, "image_size": side * 32}
        return {
            "model_cfg": {
                "embed_dim": shapes["text_projection"][1],
                "quick_gelu": True,
                "vision_cfg": vision | {"layers": layers},
                "text_cfg": {
                    "context_length": context,
                    "vocab_size": shapes["token_embedding.weight"][0],
                    "width": text_width,
                    "heads": text_width // 64,
                    "layers": count("transformer.resblocks.", 2),
                },
            },
            "preprocess_cfg": {},
        }
    except (KeyError, IndexError, TypeError, ValueError):
        return None

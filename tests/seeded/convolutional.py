"""Names and shapes of timm's towers of convolutions, as OpenCLIP's folders have them."""

from typing import Any

Shapes = dict[str, tuple[int, ...]]

# Blocks and widths of each stage, by timm's name; the small ones are names of our own.
CONVNEXT = {
    "convnext_seeded": ((1, 2, 1, 1), (16, 24, 32, 40)),
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xxlarge": ((3, 4, 30, 3), (384, 768, 1536, 3072)),
}


def add_trunk(found: Shapes, out: int, vision: dict[str, Any]) -> bool:
    """Adds the tensors of a tower; False where it is none of these."""
    name = vision.get("timm_model_name")
    if name in CONVNEXT:
        _add_convnext(found, out, vision.get("timm_proj", "linear"), *CONVNEXT[name])
        return True
    return False


def _add_convnext(
    found: Shapes, out: int, proj: str, blocks: tuple[int, ...], widths: tuple[int, ...]
) -> None:
    _add(found, "visual.trunk.stem.0", widths[0], 3, 4, 4)
    _add(found, "visual.trunk.stem.1", widths[0])
    for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        stage = f"visual.trunk.stages.{index}"
        if index:
            _add(found, f"{stage}.downsample.0", widths[index - 1])
            _add(found, f"{stage}.downsample.1", width, widths[index - 1], 2, 2)
        for block in (f"{stage}.blocks.{number}" for number in range(count)):
            found[f"{block}.gamma"] = (width,)
            _add(found, f"{block}.conv_dw", width, 1, 7, 7)
            _add(found, f"{block}.norm", width)
            _add(found, f"{block}.mlp.fc1", 4 * width, width)
            _add(found, f"{block}.mlp.fc2", width, 4 * width)
    _add(found, "visual.trunk.head.norm", widths[-1])
    if proj == "mlp":
        _add(found, "visual.head.mlp.fc1", 2 * out, widths[-1])
        found["visual.head.mlp.fc2.weight"] = (out, 2 * out)
    else:
        found["visual.head.proj.weight"] = (out, widths[-1])


def _add(found: Shapes, name: str, *shape: int) -> None:
    found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

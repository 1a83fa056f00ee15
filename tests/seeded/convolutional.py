"""Names and shapes of timm's towers of convolutions, as OpenCLIP's folders have them."""

from typing import Any

from .shapes import Shapes, add, add_timm_block

# Blocks and widths of each stage, by timm's name; the small ones are names of our own.
CONVNEXT = {
    "convnext_seeded": ((1, 2, 1, 1), (16, 24, 32, 40)),
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xxlarge": ((3, 4, 30, 3), (384, 768, 1536, 3072)),
}
# Blocks and widths of each stage, MLP ratio, stages with attention, and whether as S3 and S4.
FASTVIT = {
    "fastvit_seeded": ((1, 2, 1, 2), (16, 32, 32, 64), 3, 1, False),
    "fastvit_newer": ((1, 1, 2, 1, 1), (16, 32, 32, 64, 128), 2, 2, True),
    "fastvit_mci0": ((2, 6, 10, 2), (64, 128, 256, 512), 3, 1, False),
    "fastvit_mci1": ((4, 12, 20, 4), (64, 128, 256, 512), 3, 1, False),
    "fastvit_mci2": ((4, 12, 24, 4), (80, 160, 320, 640), 3, 1, False),
    "fastvit_mci3": ((2, 12, 24, 4, 2), (96, 192, 384, 768, 1536), 4, 2, True),
    "fastvit_mci4": ((2, 12, 24, 4, 4), (128, 256, 512, 1024, 2048), 4, 2, True),
}
# Width, layers, and the side of patches; 0 where convolutions make them.
VIT = {
    "vit_base_mci_seeded": (48, 2, 0),
    "vit_large_patch8_clip_seeded": (48, 2, 8),
    "vit_base_mci_224": (768, 12, 0),
    "vit_large_patch14_clip_224": (1024, 24, 14),
}


def add_trunk(found: Shapes, out: int, vision: dict[str, Any]) -> bool:
    """Adds the tensors of a tower; False where it is none of these."""
    name = vision.get("timm_model_name")
    if name in CONVNEXT:
        _add_convnext(found, out, vision.get("timm_proj", "linear"), *CONVNEXT[name])
    elif name in FASTVIT:
        _add_fastvit(found, out, *FASTVIT[name])
    elif name in VIT:
        _add_vit(found, out, vision["image_size"], *VIT[name])
    return name in (*CONVNEXT, *FASTVIT, *VIT)


def _add_convnext(
    found: Shapes, out: int, proj: str, blocks: tuple[int, ...], widths: tuple[int, ...]
) -> None:
    add(found, "visual.trunk.stem.0", widths[0], 3, 4, 4)
    add(found, "visual.trunk.stem.1", widths[0])
    for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        stage = f"visual.trunk.stages.{index}"
        if index:
            add(found, f"{stage}.downsample.0", widths[index - 1])
            add(found, f"{stage}.downsample.1", width, widths[index - 1], 2, 2)
        for block in (f"{stage}.blocks.{number}" for number in range(count)):
            found[f"{block}.gamma"] = (width,)
            add(found, f"{block}.conv_dw", width, 1, 7, 7)
            add(found, f"{block}.norm", width)
            add(found, f"{block}.mlp.fc1", 4 * width, width)
            add(found, f"{block}.mlp.fc2", width, 4 * width)
    add(found, "visual.trunk.head.norm", widths[-1])
    if proj == "mlp":
        add(found, "visual.head.mlp.fc1", 2 * out, widths[-1])
        found["visual.head.mlp.fc2.weight"] = (out, 2 * out)
    else:
        found["visual.head.proj.weight"] = (out, widths[-1])


def _add_fastvit(
    found: Shapes,
    out: int,
    blocks: tuple[int, ...],
    widths: tuple[int, ...],
    ratio: int,
    attending: int,
    newer: bool,
) -> None:
    trunk, width = "visual.trunk", widths[0]
    single = not newer
    _add_mobile_one(found, f"{trunk}.stem.0", width, 3, 3, single)
    _add_mobile_one(found, f"{trunk}.stem.1", width, 1, 3, single)
    _add_mobile_one(found, f"{trunk}.stem.2", width, width, 1, identity=True)
    for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        stage, attends = f"{trunk}.stages.{index}", index >= len(widths) - attending
        if index:
            down = f"{stage}.downsample.proj"
            _add_normed(found, f"{down}.0.large_conv", width, 1, 7)
            _add_normed(found, f"{down}.0.small_conv", width, 1, 3)
            if index > 1 and not newer:
                _add_squeeze(found, f"{down}.0.se", width, width // 4)
            _add_mobile_one(found, f"{down}.1", width, width, 1, identity=True)
        if attends:
            add(found, f"{stage}.pos_emb.pos_enc", width, 1, 7, 7)
        for block in (f"{stage}.blocks.{number}" for number in range(count)):
            scale = "layer_scale"
            if attends:
                scale = "layer_scale_2"
                (add if newer else _add_batch_norm)(found, f"{block}.norm", width)
                found[f"{block}.token_mixer.qkv.weight"] = (3 * width, width)
                add(found, f"{block}.token_mixer.proj", width, width)
                found[f"{block}.layer_scale_1.gamma"] = (width, 1, 1)
            else:
                mixer = f"{block}.token_mixer"
                _add_mobile_one(found, f"{mixer}.mixer", width, 1, 3, single=True, identity=True)
                _add_batch_norm(found, f"{mixer}.norm.identity", width)
                found[f"{mixer}.layer_scale.gamma"] = (width, 1, 1)
            _add_normed(found, f"{block}.mlp.conv", width, 1, 7)
            add(found, f"{block}.mlp.fc1", ratio * width, width, 1, 1)
            add(found, f"{block}.mlp.fc2", width, ratio * width, 1, 1)
            found[f"{block}.{scale}.gamma"] = (width, 1, 1)
    _add_mobile_one(found, f"{trunk}.final_conv", 2 * width, 1, 3, single=True)
    _add_squeeze(found, f"{trunk}.final_conv.se", 2 * width, 2 * width // 16)
    add(found, f"{trunk}.head.fc", out, 2 * width)


def _add_vit(found: Shapes, out: int, size: int, width: int, layers: int, patch: int) -> None:
    trunk = "visual.trunk"
    found[f"{trunk}.cls_token"] = (1, 1, width)
    if patch:
        found[f"{trunk}.patch_embed.proj.weight"] = (width, 3, patch, patch)
        add(found, f"{trunk}.norm_pre", width)
    else:
        stem, inner = f"{trunk}.patch_embed.backbone", width // 4
        _add_normed(found, f"{stem}.0", inner, 3, 4)
        _add_normed(found, f"{stem}.1", inner, inner, 2)
        add(found, f"{stem}.2.conv", width, inner, 2, 2)
    tokens = (size // (patch or 16)) ** 2 + bool(patch)
    found[f"{trunk}.pos_embed"] = (1, tokens, width)
    for block in (f"{trunk}.blocks.{number}" for number in range(layers)):
        add_timm_block(found, block, width)
    add(found, f"{trunk}.norm", width)
    add(found, f"{trunk}.head", out, width)


def _add_mobile_one(
    found: Shapes,
    name: str,
    out: int,
    grouped: int,
    side: int,
    single: bool = False,
    identity: bool = False,
) -> None:
    _add_normed(found, f"{name}.conv_kxk.0", out, grouped, side)
    if single:
        _add_normed(found, f"{name}.conv_scale", out, grouped, 1)
    if identity:
        _add_batch_norm(found, f"{name}.identity", out)


def _add_normed(found: Shapes, name: str, out: int, grouped: int, side: int) -> None:
    found[f"{name}.conv.weight"] = (out, grouped, side, side)
    _add_batch_norm(found, f"{name}.bn", out)


def _add_squeeze(found: Shapes, name: str, width: int, reduced: int) -> None:
    add(found, f"{name}.fc1", reduced, width, 1, 1)
    add(found, f"{name}.fc2", width, reduced, 1, 1)


def _add_batch_norm(found: Shapes, name: str, width: int) -> None:
    add(found, name, width)
    found[f"{name}.running_mean"] = found[f"{name}.running_var"] = (width,)
    found[f"{name}.num_batches_tracked"] = ()

"""Names and shapes of timm's EVAs and Perception Encoders, as OpenCLIP's folders have them."""

from typing import Any

from .shapes import Shapes, add, add_timm_pooling

# Width, layers, units of an MLP, patch, image size, by timm's name; the small ones are names of
# our own. Queries, keys and values are apart in EVA-02's B and L, and MLPs gated.
EVA = {
    "eva_giant_patch8_seeded": (64, 2, 144, 8, 32),
    "eva02_base_patch8_clip_seeded": (96, 3, 200, 8, 32),
    "eva02_enormous_patch7_clip_seeded": (64, 2, 144, 7, 32),
    "eva_giant_patch14_224": (1408, 40, 6144, 14, 224),
    "eva02_base_patch16_clip_224": (768, 12, 2048, 16, 224),
    "eva02_large_patch14_clip_224": (1024, 24, 2730, 14, 224),
    "eva02_large_patch14_clip_336": (1024, 24, 2730, 14, 336),
    "eva02_enormous_patch14_clip_224": (1792, 64, 15360, 14, 224),
}

# Likewise, of Perception Encoders; the gigantic ones have no class token.
PE = {
    "vit_pe_core_tiny_patch8_seeded": (48, 3, 120, 8, 32),
    "vit_pe_core_gigantic_patch7_seeded": (128, 2, 200, 7, 32),
    "vit_pe_core_tiny_patch16_384": (192, 12, 768, 16, 384),
    "vit_pe_core_small_patch16_384": (384, 12, 1536, 16, 384),
    "vit_pe_core_base_patch16_224": (768, 12, 3072, 16, 224),
    "vit_pe_core_large_patch14_336": (1024, 24, 4096, 14, 336),
    "vit_pe_core_gigantic_patch14_448": (1536, 50, 8960, 14, 448),
}


def add_trunk(found: Shapes, out: int, vision: dict[str, Any]) -> bool:
    """Adds the tensors of a tower; False where it is none of these."""
    name = vision.get("timm_model_name", "")
    if name in EVA:
        _add_eva(found, out, name)
    elif name in PE:
        _add_pe(found, out, name)
    return name in (*EVA, *PE)


def _add_eva(found: Shapes, out: int, name: str) -> None:
    width, layers, hidden, patch, size = EVA[name]
    trunk, rotary = "visual.trunk", "eva02_base" in name or "eva02_large" in name
    found[f"{trunk}.cls_token"] = (1, 1, width)
    found[f"{trunk}.pos_embed"] = (1, 1 + (size // patch) ** 2, width)
    add(found, f"{trunk}.patch_embed.proj", width, 3, patch, patch)
    for block in (f"{trunk}.blocks.{number}" for number in range(layers)):
        add(found, f"{block}.norm1", width)
        add(found, f"{block}.norm2", width)
        add(found, f"{block}.attn.proj", width, width)
        add(found, f"{block}.mlp.fc2", width, hidden)
        if rotary:
            add(found, f"{block}.attn.q_proj", width, width)
            found[f"{block}.attn.k_proj.weight"] = (width, width)
            add(found, f"{block}.attn.v_proj", width, width)
            add(found, f"{block}.attn.norm", width)
            add(found, f"{block}.mlp.fc1_g", hidden, width)
            add(found, f"{block}.mlp.fc1_x", hidden, width)
            add(found, f"{block}.mlp.norm", hidden)
        else:
            found[f"{block}.attn.qkv.weight"] = (3 * width, width)
            found[f"{block}.attn.q_bias"] = found[f"{block}.attn.v_bias"] = (width,)
            add(found, f"{block}.mlp.fc1", hidden, width)
    add(found, f"{trunk}.norm", width)
    add(found, f"{trunk}.head", out, width)


def _add_pe(found: Shapes, out: int, name: str) -> None:
    width, layers, hidden, patch, size = PE[name]
    trunk, first = "visual.trunk", "gigantic" not in name
    if first:
        found[f"{trunk}.cls_token"] = (1, 1, width)
    found[f"{trunk}.pos_embed"] = (1, first + (size // patch) ** 2, width)
    found[f"{trunk}.patch_embed.proj.weight"] = (width, 3, patch, patch)
    add(found, f"{trunk}.norm_pre", width)
    for block in (f"{trunk}.blocks.{number}" for number in range(layers)):
        add(found, f"{block}.norm1", width)
        add(found, f"{block}.norm2", width)
        add(found, f"{block}.attn.qkv", 3 * width, width)
        add(found, f"{block}.attn.proj", width, width)
        add(found, f"{block}.mlp.fc1", hidden, width)
        add(found, f"{block}.mlp.fc2", width, hidden)
    add(found, f"{trunk}.norm", width)
    add_timm_pooling(found, f"{trunk}.attn_pool", width)
    add(found, f"{trunk}.head", out, width)

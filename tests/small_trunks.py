"""Small towers under names that timm does not have, for the layouts to know in tests."""

import pytest

from bareclip_export.layouts import (
    open_clip_convnext,
    open_clip_eva,
    open_clip_mobileclip,
    open_clip_mobileclip_vit,
    open_clip_pe,
)
from bareclip_export.layouts.open_clip_siglip import Trunk
from tests.seeded.convolutional import CONVNEXT, FASTVIT, VIT
from tests.seeded.eva import EVA, PE


def small_trunks(patch: pytest.MonkeyPatch) -> None:
    """Adds those of tests/seeded/convolutional.py and eva.py to what the layouts author."""
    convnext = open_clip_convnext.Trunk(*CONVNEXT["convnext_seeded"])
    patch.setitem(open_clip_convnext.TRUNKS, "convnext_seeded", convnext)
    for name in ("fastvit_seeded", "fastvit_newer"):
        patch.setitem(open_clip_mobileclip.TRUNKS, name, open_clip_mobileclip.Trunk(*FASTVIT[name]))
    name = "vit_base_mci_seeded"
    stemmed = Trunk(*VIT[name][:2], 12, 4.0, "gelu")
    patch.setitem(open_clip_mobileclip_vit.STEMMED, name, stemmed)
    name = "vit_large_patch8_clip_seeded"
    width, layers, side = VIT[name]
    plain = Trunk(width, layers, 16, 4.0, "gelu", 1e-5)
    patch.setitem(open_clip_mobileclip_vit.PLAIN, name, (plain, side))
    for name, heads, kind in (
        ("eva_giant_patch8_seeded", 16, "eva"),
        ("eva02_base_patch8_clip_seeded", 12, "rotary"),
        ("eva02_enormous_patch7_clip_seeded", 16, "post"),
    ):
        width, layers, hidden, side, size = EVA[name]
        eva = open_clip_eva.Trunk(width, layers, heads, hidden, side, size, kind)  # type: ignore[arg-type]
        patch.setitem(open_clip_eva.TRUNKS, name, eva)
    for name, heads in (
        ("vit_pe_core_tiny_patch8_seeded", 3),
        ("vit_pe_core_gigantic_patch7_seeded", 16),
    ):
        width, layers, hidden, side, size = PE[name]
        first = "gigantic" not in name
        encoder = open_clip_pe.Trunk(width, layers, heads, hidden, side, size, first)
        patch.setitem(open_clip_pe.TRUNKS, name, encoder)

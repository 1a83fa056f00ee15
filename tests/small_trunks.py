"""Small towers under names that timm does not have, for the layouts to know in tests."""

import pytest

from bareclip_export.layouts import (
    open_clip_convnext,
    open_clip_mobileclip,
    open_clip_mobileclip_vit,
)
from bareclip_export.layouts.open_clip_siglip import Trunk
from tests.seeded.convolutional import CONVNEXT, FASTVIT, VIT


def small_trunks(patch: pytest.MonkeyPatch) -> None:
    """Adds those of tests/seeded/convolutional.py to what the layouts author."""
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

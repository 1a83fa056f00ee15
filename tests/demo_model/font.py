"""The font the demo model's pictures are drawn with: Debian's fonts-noto-color-emoji."""

import hashlib
import os
from pathlib import Path

import pytest

FONT = Path(os.environ.get("DEMO_MODEL_FONT", "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
needs_font = pytest.mark.skipif(not FONT.exists(), reason="the emoji font is not installed")

# Version 2.042, which the card's figures were made with; another draws other pictures.
FIGURES_FONT = "e5899ed38b8ed83e08bd3ac5de09791e9d19d288333a796de1d35ad17396f1ec"
needs_figures_font = pytest.mark.skipif(
    not FONT.exists() or hashlib.sha256(FONT.read_bytes()).hexdigest() != FIGURES_FONT,
    reason="the emoji font is not of the version the figures were made with",
)

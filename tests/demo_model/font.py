"""The font the demo model's pictures are drawn with: Debian's fonts-noto-color-emoji."""

import os
from pathlib import Path

import pytest

FONT = Path(os.environ.get("DEMO_MODEL_FONT", "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
needs_font = pytest.mark.skipif(not FONT.exists(), reason="the emoji font is not installed")

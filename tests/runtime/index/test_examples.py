"""The examples in the index's docstrings run, on the demo model."""

import doctest
from pathlib import Path

import bareclip
from bareclip.index import photo_index


def test_examples(tmp_path: Path) -> None:
    pictures = Path(bareclip.__file__).parent / "demo" / "pictures"
    given = {
        "bareclip": bareclip,
        "photos": [pictures / "cat.png", pictures / "dog.png"],
        "folder": tmp_path,
    }
    found = doctest.testmod(photo_index, extraglobs=given)
    assert (found.failed, found.attempted > 5) == (0, True)

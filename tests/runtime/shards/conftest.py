from pathlib import Path

import pytest

import bareclip
from tests.runtime.shards import making

pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with two tars, of 6 and 5 pictures, of which three are no good."""
    bad = [("broken.jpg", b"hello"), ("bomb.png", making.bomb()), ("000000001.jpg", making.jpeg(9))]
    making.write_tar(tmp_path / "in" / "00000.tar", [*making.samples(0, 3), *bad])
    making.write_tar(tmp_path / "in" / "00001.tar", making.samples(10, 5))
    return tmp_path / "in"


@pytest.fixture
def finished(mixed: Path, tmp_path: Path, clip: bareclip.Clip) -> Path:
    """A run that is done: two shards of tars, three of a folder of eight pictures."""
    from bareclip import shards

    photos = making.write_folder(tmp_path / "photos", 8)
    plan = shards.plan([mixed, photos], tmp_path / "OUT", rows=3)
    assert all(isinstance(event, shards.Finished) for event in shards.run(plan, clip))
    return tmp_path / "OUT"

"""The demo model that ships, and the story told with it."""

from pathlib import Path

import pytest
from PIL import Image

import bareclip
from bareclip.bundle import DEMO, Bundle
from bareclip.cli.demo import LABELS, PICTURES
from tests.runtime.test_cli import complaint, run


def test_loading_without_an_argument_is_the_demo_model() -> None:
    clip = bareclip.load()
    assert clip.bundle.folder == DEMO
    assert Bundle.read(DEMO).damage() == []
    files = [path for path in DEMO.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10e6


def test_the_demos_answers_are_right_and_drawn(tmp_path: Path) -> None:
    output = run("demo", "-o", tmp_path / "answers.png").stdout
    things = [path for path in sorted(PICTURES.glob("*.png")) if path.stem in LABELS]
    assert len(things) >= 8
    for path in things:
        [line] = [line for line in output.splitlines() if line.startswith(f"{path.name} ")][:1]
        # One prompt, the mean vector of five, their mean probability.
        assert line.split()[1::2] == [path.stem] * 3
    for query in ("a sunset over the ocean", "three green triangles", "a dog on the beach"):
        [line] = [line for line in output.splitlines() if line.startswith(f"{query} ")]
        assert line.removeprefix(query).split()[0] == query.removeprefix("a ").replace(" ", "-")
    assert "bareclip export openai/clip-vit-base-patch32" in output.splitlines()[-1]
    assert str(tmp_path / "answers.png") in output
    with Image.open(tmp_path / "answers.png") as sheet:
        assert sheet.width > 700


def test_a_sheet_that_cannot_be_written(tmp_path: Path) -> None:
    assert "give a .png file" in complaint("demo", "-o", tmp_path / "x.jpg")
    assert "folder that exists" in complaint("demo", "-o", tmp_path / "none" / "x.png")


@pytest.mark.parametrize("verb", ["classify", "similarity", "embed"])
def test_without_a_bundle_one_line_says_whose_answers_these_are(verb: str, tmp_path: Path) -> None:
    image = PICTURES / "cat.png"
    arguments: dict[str, list[str | Path]] = {
        "classify": [image, "--labels", "cat,dog"],
        "similarity": [image, "a cat"],
        "embed": [image, "-o", tmp_path / "x.npz"],
    }
    said = run(verb, *arguments[verb]).stderr
    assert said.count("\n") == 1
    assert "demo model, which knows drawn emoji and shapes and no photos" in said
    assert run(verb, *arguments[verb], "--bundle", DEMO).stderr == ""

import hashlib
from pathlib import Path

import pytest

from bareclip import TextError
from bareclip.cli.options import templates_argument
from bareclip.texts import prompts as templates


def test_imagenet_templates_are_openais() -> None:
    listed = "\n".join(sorted(templates.TEMPLATES["imagenet"]))
    digest = "a8a4822f2921936e2ef07cf2e7a5df69be9532aab2f3f4880156bb03563e2467"
    assert hashlib.sha256(listed.encode()).hexdigest() == digest
    assert len(templates.TEMPLATES["imagenet"]) == 80


def test_the_five() -> None:
    assert templates.resolve("five") == (
        "a photo of a {}",
        "a picture of a {}",
        "a {} in the wild",
        "a {} in nature",
        "an image of a {}",
    )


def test_resolve_takes_names_one_template_and_several() -> None:
    assert templates.resolve("plain") == ("a photo of a {}",)
    assert templates.resolve("art of a {}") == ("art of a {}",)
    assert templates.resolve(["{}", "a {}"]) == ("{}", "a {}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("imagnet", "no templates named 'imagnet'; the sets are plain, five, imagenet"),
        ([], "no templates given"),
        (["a {} and a {}"], "exactly once"),
        (["a photo"], "exactly once"),
    ],
)
def test_resolve_refuses(given: str | list[str], message: str) -> None:
    with pytest.raises(TextError, match=message):
        templates.resolve(given)


def test_an_argument_is_a_set_a_template_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\ufeffa painting of a {}\n\n  a {} at night \n", encoding="utf-8")
    assert templates_argument(str(path)) == ("a painting of a {}", "a {} at night")
    assert templates_argument("plain") == ("a photo of a {}",)
    long = "a {} " + "very " * 100
    assert templates_argument(long) == (long,)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(TextError, match=r"cannot read .*mine\.txt: .* must be UTF-8 text"):
        templates_argument(str(path))

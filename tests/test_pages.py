"""The README and the pages: their Python runs, their commands exist, links lead somewhere."""

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

import bareclip
from bareclip.bundle import Bundle
from bareclip.cli.demo import PICTURES
from bareclip.cli.main import commands
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/*/README.md"))
    if path.name != "CHANGELOG.md" and "node_modules" not in path.parts
]
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
# Whose Python stands by itself on the demo model; integrations.md's runs in tests/integrations,
# the rest wants the Hub, a cluster, OpenVINO or a service, and is compiled.
ALONE = {"README.md": 2, "docs/python.md": 7, "docs/classifiers.md": 1, "docs/shards.md": 1}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has what the pages speak of."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("cat", "dog"):
        shutil.copy(PICTURES / f"{name}.png", folder / f"{name}.jpg")
    shutil.copy(PICTURES / "dog-on-the-beach.png", folder / "beach.jpg")
    shutil.copy(PICTURES / "cat.png", folder / "photo.jpg")
    shutil.copytree(PICTURES, folder / "photos")
    copy = shutil.copytree(bareclip.load().bundle.folder, folder / "clip-b32")
    quantize(Bundle.read(Path(copy)), "int8", Data([], []))
    return folder


@pytest.mark.parametrize("name", ALONE)
def test_the_python_runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "shards" in name:
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(folder)
    found = blocks(ROOT / name, "python")
    assert len(found) >= ALONE[name]
    known: dict[str, object] = {"bareclip": bareclip, "__name__": "__main__"}
    if "vectors" in found[0]:
        known["vectors"] = bareclip.load().embed_images([folder / "cat.jpg"])
    for block in found[: ALONE[name]]:
        exec(block, known)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_python_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_their_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    code = "\n".join(re.findall(r"```(?:sh|text)\n(.*?)```", text, re.S))
    lines = re.findall(r"(?:^|&& )(?:\w+=\S+ )*(?:\S*/)?bareclip (.+)$", code, re.M)
    lines += re.findall(r"^    bareclip (.+)$", text, re.M)
    lines += re.findall(r"`bareclip ([a-z][^`\n]*)`", text)
    for line in lines:
        try:
            words = shlex.split(line.partition(" | ")[0].partition(" > ")[0], comments=True)
        except ValueError:  # an apostrophe of prose
            continue
        command: click.Command = commands
        context = click.Context(command, info_name="bareclip")
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            word = words.pop(0).split("|")[0]
            found = command.get_command(context, word)
            if found is None and command is not commands:
                break
            assert found is not None, f"{page.name}: there is no `bareclip {word}`"
            command, context = found, click.Context(found, parent=context, info_name=word)
        options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        asked = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert asked <= options | {"--help", "-h"}, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[\w+\]: (\S+)$", text, re.M)
    for link in links:
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = page if not place else (page.parent / place)
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {
                re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings
            }


def test_the_page_of_calls_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^::: bareclip\.(?:index\.)?(\w+)$", page, re.M))
    assert {"types", "errors"} <= shown  # whole
    shown |= set(dir(bareclip.types)) | set(dir(bareclip.errors))
    assert set(bareclip.__all__) - {"__version__"} <= shown

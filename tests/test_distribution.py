"""What would be published: the same bytes each time, whole, and with links that lead somewhere."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from datetime import date
from email import message_from_bytes
from pathlib import Path

import pytest

import bareclip

pytest.importorskip("build", reason="needs bareclip[test]")

ROOT = Path(__file__).parents[1]


def built(source: Path, out: Path, *kinds: str) -> dict[str, bytes]:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *kinds]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    built(ROOT, out, "--sdist", "--wheel")
    return out


@pytest.fixture(scope="module")
def wheel(distribution: Path) -> zipfile.ZipFile:
    [path] = distribution.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_source_distribution_builds_the_same_wheel(distribution: Path, tmp_path: Path) -> None:
    [source] = distribution.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    [folder] = (tmp_path / "source").iterdir()
    again = built(folder, tmp_path / "again", "--sdist", "--wheel")
    assert again == {path.name: path.read_bytes() for path in distribution.iterdir()}


def test_an_index_would_take_it(distribution: Path) -> None:
    files = [str(path) for path in distribution.iterdir()]
    said = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout


def test_what_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    info = f"bareclip-{bareclip.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"bareclip", "bareclip_export", info}
    in_git = subprocess.run(
        ["git", "ls-files", "runtime/bareclip", "export/bareclip_export"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if in_git.returncode == 0:  # a source distribution has no history
        files = {name.split("/", 1)[1] for name in in_git.stdout.split()}
        assert {name for name in names if not name.startswith(info)} == files
    assert {"bareclip/py.typed", "bareclip_export/py.typed", f"{info}/licenses/LICENSE"} <= names
    assert f"{info}/licenses/THIRD_PARTY.md" in names
    assert sum(file.compress_size for file in wheel.infolist()) < 25e6


def test_links_lead_out_of_the_index_page(wheel: zipfile.ZipFile) -> None:
    [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    message = message_from_bytes(wheel.read(metadata))
    links = re.findall(r"\]\(([^)]+)\)", str(message.get_payload()))
    assert links
    for link in links:
        assert link.startswith(("https://", "#")), link
        place = re.match(rf"https://[\w./]+?/(?:blob/)?v{bareclip.__version__}/(.*)", link)
        assert place is None or (ROOT / place[1]).exists(), link
    assert {entry.split(",")[0] for entry in message.get_all("Project-URL") or []} >= {
        "Homepage",
        "Documentation",
        "Changelog",
        "Issues",
    }


def test_the_changelog_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, *sections = re.findall(r"^## (.+)$", text, re.M)
    assert unreleased == "[Unreleased]"
    dated = [re.fullmatch(r"\[?([\d.]+)\]? - (\d{4}-\d\d-\d\d)", section) for section in sections]
    versions = [(match[1], date.fromisoformat(match[2])) for match in dated if match is not None]
    assert len(versions) == len(sections)
    assert versions[0][0] == bareclip.__version__  # which release.yml asks for
    assert [day for _, day in versions] == sorted((day for _, day in versions), reverse=True)
    linked = re.findall(r"^## \[(.+?)\]", text, re.M)
    links = dict(re.findall(r"^\[(.+?)\]: (\S+)$", text, re.M))
    assert linked == [*links]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert all(link.startswith(project["urls"]["Homepage"] + "/") for link in links.values())


@pytest.mark.skipif(not (ROOT / ".dockerignore").exists(), reason="a source distribution has none")
def test_the_image_installs_the_same_wheel(distribution: Path, tmp_path: Path) -> None:
    """What .dockerignore lets in is enough, and the published wheel comes of it."""
    source = tmp_path / "source"
    first, *names, caches = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert (first, caches) == ("*", "**/__pycache__")
    for name in (name.removeprefix("!") for name in names):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=lambda *_: {"__pycache__"})
        else:
            shutil.copy(ROOT / name, source / name)
    [(name, wheel)] = built(source, tmp_path / "again", "--wheel").items()
    assert wheel == (distribution / name).read_bytes()

"""``-`` for standard input: labels, texts, queries, or a picture."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from tests.runtime.test_cli import complaint, run
from tests.variants import picture


@pytest.fixture
def image(tmp_path: Path) -> Path:
    picture(40, 30).save(tmp_path / "x.png")
    return tmp_path / "x.png"


@pytest.fixture
def bundle(bundles: dict[str, Path]) -> str:
    return str(bundles["tiny"])


@pytest.mark.parametrize(
    "given",
    [
        "cat\ndog, the animal\nünder\n",
        "\ufeffcat\r\ndog, the animal\r\nünder\r\n",
        "\n  cat\n\ndog, the animal\n\t\nünder",
        "cat\rdog, the animal\ründer",
    ],
)
def test_labels(image: Path, bundle: str, given: str) -> None:
    arguments = ["classify", image, "--labels", "-", "--json", "--bundle", bundle]
    [found] = json.loads(run(*arguments, given=given.encode()).stdout)
    [wanted] = bareclip.load(bundle).classify(image, ["cat", "dog, the animal", "ünder"])
    assert [p["label"] for p in found["predictions"]] == [p.label for p in wanted]


def test_a_picture(image: Path, bundle: str, tmp_path: Path) -> None:
    data = image.read_bytes()
    options = ["--bundle", bundle, "--json"]
    labels = ["--labels", "cat,dog"]
    db, output = tmp_path / "photos.db", tmp_path / "x.npz"

    def same(by_name: list[Any], piped: list[Any]) -> str:
        found = run(*piped, given=data).stdout
        assert found.replace('"-"', json.dumps(str(image))) == run(*by_name).stdout
        return found

    told = same(["classify", image, *labels, *options], ["classify", "-", *labels, *options])
    assert json.loads(told)[0]["image"] == "-"
    same(["similarity", image, "a cat", *options], ["similarity", "-", "a cat", *options])
    run("index", image.parent, "--db", db, "--bundle", bundle)
    [by_pipe] = json.loads(run("search", db, "--image", "-", "--json", given=data).stdout)
    # A picture of no name is not known to be the one that is in the index.
    assert by_pipe["hits"][0]["item"] == str(image)
    assert by_pipe["hits"][0]["similarity"] == pytest.approx(1)
    run("embed", "-", image, "-o", output, *options, given=data)
    with np.load(output) as archive:
        assert archive["names"].tolist() == ["-", str(image)]
        np.testing.assert_array_equal(archive["vectors"][0], archive["vectors"][1])
    for given, said in ((b"", "standard input is empty"), (b"x", "cannot read image")):
        found = run("similarity", "-", "a cat", "--bundle", bundle, code=1, given=given)
        assert found.stderr.count("\n") == 1
        assert said in found.stderr


def test_texts_and_queries(image: Path, bundle: str, tmp_path: Path) -> None:
    given = b"a cat\n\na dog\n"
    options = ["--bundle", bundle, "--json"]
    found = run("similarity", image, "a bird", "-", *options, given=given).stdout
    assert found == run("similarity", image, "a bird", "a cat", "a dog", *options).stdout
    db = tmp_path / "photos.db"
    run("index", image.parent, "--db", db, "--bundle", bundle)
    wanted = run("search", db, "a cat", "a dog", "--json").stdout
    assert run("search", db, "-", "--json", given=given).stdout == wanted
    assert run("search", db, "--queries", "-", "--json", given=given).stdout == wanted
    assert "nothing to search for" in complaint("search", db, "-", code=2)


def test_bytes_that_are_no_text_are_one_line(image: Path, bundle: str) -> None:
    for arguments in (
        ["classify", image, "--labels", "-"],
        ["similarity", image, "-"],
        ["embed", "--texts", "-", "-o", image.with_name("x.npz")],
    ):
        found = run(*arguments, "--bundle", bundle, code=1, given=b"caf\xe9\n")
        assert found.stderr.startswith("bareclip: cannot read standard input: ")
        assert found.stderr.endswith("it must be UTF-8 text\n")
        assert found.stderr.count("\n") == 1


def test_a_file_of_that_name_is_still_had(bundle: str, image: Path) -> None:
    dash = image.with_name("-")
    image.rename(dash)
    assert run("classify", dash, "--labels", "a,b", "--bundle", bundle).stdout


@pytest.mark.parametrize("source", ["file", "pipe"])
def test_embedding_texts(bundle: str, tmp_path: Path, source: str) -> None:
    texts = ["a cat", "a red circle " * 30, "ünder 猫", "a cat", "x"]
    data = ("\ufeff" + "\n\n".join(texts) + "\n").encode()
    file, output = tmp_path / "texts.txt", tmp_path / "x.npz"
    file.write_bytes(data)
    given = "-" if source == "pipe" else file
    options = ["-o", output, "--bundle", bundle]
    found = run("embed", "--texts", given, *options, given=data if source == "pipe" else b"")
    assert found.stdout == f"{output}: 5 vectors of width 20\n"
    with np.load(output) as archive:
        assert archive["names"].tolist() == [text.strip() for text in texts]
        assert archive["model"] == "tiny"
        assert archive["vectors"].dtype == np.float32
        np.testing.assert_allclose(
            archive["vectors"], bareclip.load(bundle).embed_texts(texts), atol=1e-6
        )
    told = run("embed", "--texts", given, *options, "--json", given=data)
    assert json.loads(told.stdout) == {"output": str(output), "texts": 5, "width": 20}


def test_texts_that_cannot_be_embedded_keep_what_was_there(bundle: str, tmp_path: Path) -> None:
    output = tmp_path / "x.npz"
    output.write_bytes(b"made before")
    (tmp_path / "empty.txt").write_text("\n \n")
    options = ["-o", output, "--bundle", bundle]
    message = complaint("embed", "--texts", tmp_path / "empty.txt", *options)
    assert "empty.txt holds no texts; write one per line" in message
    assert "cannot read" in complaint("embed", "--texts", tmp_path / "none.txt", *options)
    assert "cannot read" in complaint("embed", "--texts", tmp_path, *options)
    assert output.read_bytes() == b"made before"


def test_one_tower_is_enough_for_what_wants_one(
    image: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """The other's graph is no graph, and nobody notices."""
    (tmp_path / "texts.txt").write_text("a cat\na dog\n")
    for tower, arguments in (
        ("vision", ["embed", "--texts", tmp_path / "texts.txt"]),
        ("text", ["embed", image]),
    ):
        bundle = Path(shutil.copytree(bundles["tiny"], tmp_path / tower))
        for graph in (bundle / "fp32").glob(f"{tower}*"):
            graph.write_bytes(b"x" * graph.stat().st_size)
        run(*arguments, "-o", tmp_path / "x.npz", "--bundle", bundle)
        with np.load(tmp_path / "x.npz") as archive:
            found = archive["vectors"]
        clip = bareclip.load(bundles["tiny"])
        whole = clip.embed_texts(["a cat", "a dog"]) if tower == "vision" else None
        np.testing.assert_allclose(
            found, clip.embed_images([image]) if whole is None else whole, atol=1e-6
        )

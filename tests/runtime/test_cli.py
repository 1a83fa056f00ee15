"""The command line, run in its own process as users run it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

import bareclip
from bareclip.cli.main import commands
from bareclip.images.folders import image_files
from bareclip.texts.prompts import FIVE
from tests.machine import needs_any_name
from tests.variants import picture

VERBS = sorted(commands.list_commands(click.Context(commands)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    picture(60, 40).save(folder / "a cat.png")
    picture(40, 60, seed=1).save(folder / "deeper" / "dog.jpg")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def bundle(bundles: dict[str, Path]) -> str:
    return str(bundles["tiny"])


def run(
    *arguments: str | Path, code: int = 0, given: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command as its user would, with ``given`` on standard input."""
    command = [sys.executable, "-m", "bareclip", *map(str, arguments)]
    raw = subprocess.run(
        command, capture_output=True, env=os.environ | environment, timeout=120, input=given
    )
    # By hand: text=True would turn a \r, which hides what stands before it, into a new line.
    out, error = (text.decode(errors="backslashreplace") for text in (raw.stdout, raw.stderr))
    found = subprocess.CompletedProcess(raw.args, raw.returncode, out, error)
    assert found.returncode == code, found.stderr
    return found


def complaint(*arguments: str | Path, code: int = 1) -> str:
    """The one line of an error, which is all there is."""
    found = run(*arguments, code=code)
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert "Traceback" not in found.stderr
    return found.stderr


def test_classify_prints_a_table_and_the_apis_answers_as_json(photos: Path, bundle: str) -> None:
    arguments = ["classify", photos, "--labels", "cat, dog,bird", "--bundle", bundle]
    table = run(*arguments).stdout.splitlines()
    assert table[0].split() == ["image", "label", "probability"]
    assert len(table) == 2 + 2 * 3
    found = json.loads(run(*arguments, "--json").stdout)
    paths = [photos / "a cat.png", photos / "deeper" / "dog.jpg"]
    wanted = bareclip.load(bundle).classify(paths, ["cat", "dog", "bird"])
    for line, path, predictions in zip(found, paths, wanted, strict=True):
        assert line["image"] == str(path)
        labels = [p["label"] for p in line["predictions"]]
        assert labels == [p.label for p in predictions]
        probabilities = [p["probability"] for p in line["predictions"]]
        assert probabilities == pytest.approx([p.probability for p in predictions], abs=1e-5)


@pytest.mark.parametrize("ensemble", ["embedding", "probability"])
def test_classify_options_reach_the_model(
    photos: Path, bundle: str, tmp_path: Path, ensemble: str
) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog, the animal\n\nbird\n")
    (tmp_path / "templates.txt").write_text("\n".join(FIVE))
    image = photos / "a cat.png"
    options = ["--labels", tmp_path / "labels.txt", "--ensemble", ensemble, "--top", "2"]
    rest = ["--threads", "1", "--device", "cpu", "--precision", "fp32", "--json"]
    by_name, by_file = (
        json.loads(
            run("classify", image, *options, "--templates", given, "--bundle", bundle, *rest).stdout
        )
        for given in ("five", tmp_path / "templates.txt")
    )
    assert by_name == by_file
    clip = bareclip.load(bundle)
    [wanted] = clip.classify(
        image, ["cat", "dog, the animal", "bird"], templates="five", ensemble=ensemble, top=2
    )  # type: ignore[arg-type]
    found = by_name[0]["predictions"]
    assert [p["label"] for p in found] == [p.label for p in wanted]
    assert [p["probability"] for p in found] == pytest.approx(
        [p.probability for p in wanted], abs=1e-5
    )


def test_read_as_stored_ignores_orientation(bundle: str, tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    picture(60, 40).save(tmp_path / "turned.jpg", exif=exif)
    answers = [
        run(
            "similarity", tmp_path / "turned.jpg", "a cat", "--json", "--bundle", bundle,
            "--read", read,
        ).stdout
        for read in ("as-seen", "as-stored")
    ]  # fmt: skip
    assert answers[0] != answers[1]


def test_similarity(photos: Path, bundle: str) -> None:
    texts = ["a happy golden retriever", "a red circle"]
    image = photos / "a cat.png"
    found = json.loads(run("similarity", image, *texts, "--json", "--bundle", bundle).stdout)
    clip = bareclip.load(bundle)
    wanted = clip.similarity(clip.embed_images([image]), clip.embed_texts(texts))[0]
    assert [line["text"] for line in found] == texts
    assert [line["similarity"] for line in found] == pytest.approx(wanted.tolist(), abs=1e-5)
    table = run("similarity", image, *texts, "--bundle", bundle).stdout
    assert f"a red circle              {wanted[1]:10.4f}" in table


def test_similarity_of_a_folder(photos: Path, bundle: str) -> None:
    texts = ["a cat", "a dog"]
    found = json.loads(run("similarity", photos, *texts, "--json", "--bundle", bundle).stdout)
    paths = [photos / "a cat.png", photos / "deeper" / "dog.jpg"]
    clip = bareclip.load(bundle)
    wanted = clip.similarity(clip.embed_images(paths), clip.embed_texts(texts))
    assert [(line["image"], line["text"]) for line in found] == [
        (str(path), text) for path in paths for text in texts
    ]
    assert [line["similarity"] for line in found] == pytest.approx(wanted.ravel(), abs=1e-5)
    table = run("similarity", photos, *texts, "--bundle", bundle).stdout.splitlines()
    assert table[0].split() == ["image", "text", "similarity"]
    assert [line.split()[-1] for line in table[2:]] == [f"{value:.4f}" for value in wanted.ravel()]


def test_embed_writes_vectors_with_their_names(photos: Path, bundle: str, tmp_path: Path) -> None:
    output = tmp_path / "photos.npz"
    found = json.loads(run("embed", photos, "-o", output, "--json", "--bundle", bundle).stdout)
    assert found == {"output": str(output), "images": 2, "width": 20, "skipped": []}
    with np.load(output) as archive:
        paths = [photos / "a cat.png", photos / "deeper" / "dog.jpg"]
        assert archive["names"].tolist() == [str(path) for path in paths]
        assert archive["model"] == "tiny"
        wanted = bareclip.load(bundle).embed_images(paths)
        np.testing.assert_allclose(archive["vectors"], wanted, atol=1e-6)


def test_embed_goes_on_or_stops_and_keeps_what_was_there(
    photos: Path, bundle: str, tmp_path: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    output = tmp_path / "photos.npz"
    output.write_bytes(b"made before")
    arguments = ["embed", photos, "-o", output, "--bundle", bundle]
    message = complaint(*arguments, "--on-error", "raise")
    assert "broken.png: it is in no image format" in message
    only = complaint("embed", photos / "broken.png", "-o", output, "--bundle", bundle)
    assert only == message
    (photos / "worse.png").write_bytes(b"")
    both = [photos / "broken.png", photos / "worse.png"]
    none = run("embed", *both, "-o", output, "--bundle", bundle, code=1)
    assert none.stderr.endswith("\nbareclip: none of the 2 images can be read\n")
    assert output.read_bytes() == b"made before"
    (photos / "worse.png").unlink()
    for options, code in ([], 1), (["--on-error", "skip"], 0):
        found = run(*arguments, *options, code=code)
        assert "skipped: cannot read image" in found.stderr
        assert ("1 of 3 images could not be read" in found.stderr) == bool(code)
        assert "2 vectors of width 20, 1 images skipped" in found.stdout
        output.unlink()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_a_bad_picture_is_named_and_costs_no_other_its_answer(
    photos: Path, bundle: str, tmp_path: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    labels = ["--labels", "cat,dog", "--bundle", bundle]
    captions = tmp_path / "captions.jsonl"
    names = ["a cat.png", "broken.png", "deeper/dog.jpg"]
    lines = [json.dumps({"image": f"photos/{name}", "captions": ["x"]}) for name in names]
    captions.write_text("\n".join(lines))
    (photos / "deeper" / "broken.png").write_bytes(b"")
    (photos / "another").mkdir()
    picture(20, 20, seed=4).save(photos / "another" / "x.png")
    for arguments, wanted in (
        (["classify", photos, *labels], 3),
        (["similarity", photos, "a cat", "--bundle", bundle], 3),
        (["evaluate", bundle, photos], 2),
        (["evaluate", bundle, captions], 2),
    ):
        bad = 2 if wanted == 3 else 1
        for options in ([], ["--json"]):
            found = run(*arguments, *options, code=1)
            lines = found.stderr.splitlines()
            assert [line.startswith("skipped: cannot read image") for line in lines[:-1]] == (
                [True] * bad
            )
            assert "broken.png: it is in no image format" in lines[0]
            assert f"{bad} of {bad + wanted} images could not be read" in lines[-1]
            if options:
                told = json.loads(found.stdout)
                assert (len(told) if isinstance(told, list) else told["images"]) == wanted
            else:
                assert found.stdout.count("\n") > 2


def test_info_of_a_bundle_and_its_damage(bundle: str, tmp_path: Path) -> None:
    found = json.loads(run("info", bundle, "--json").stdout)
    assert found["embedding_width"] == 20
    assert found["damaged"] == []
    assert found["towers"][0]["bytes"] > 10_000
    assert [tower["parity"]["max_difference"] < 1e-5 for tower in found["towers"]] == [True, True]
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    data = bytearray((copy / "fp32" / "text.onnx.data").read_bytes())
    data[0] ^= 255
    (copy / "fp32" / "text.onnx.data").write_bytes(data)
    damaged = run("info", copy, "--json", code=1)
    assert json.loads(damaged.stdout)["damaged"] == ["fp32/text.onnx.data"]
    assert "its checksums differ: fp32/text.onnx.data; copy or export it again" in damaged.stderr


def test_info_of_the_installation() -> None:
    found = json.loads(run("info", "--json").stdout)
    assert found["bareclip"] == bareclip.__version__
    assert "CPUExecutionProvider" in found["providers"]
    assert found["threads"] >= 1
    assert "onnxruntime" in run("info").stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    help_ = run(verb, "--help").stdout
    assert re.search(rf"^  bareclip {verb}\b", help_, re.M)
    # "One per line", never "one a line".
    assert not re.search(r"\b(a|an|one) (\w+ )?an? (line|tower|class|file|query)\b", help_)


def test_the_help_lists_every_verb() -> None:
    help_ = run("--help").stdout
    listed = re.findall(r"^  ([a-z-]+)  ", help_.partition("Commands:")[2], re.M)
    assert listed == VERBS
    assert {"classify", "embed", "export", "index", "search", "similarity"} < set(VERBS)
    assert bareclip.__version__ in run("--version").stdout


def test_errors_are_one_line(photos: Path, bundle: str, tmp_path: Path) -> None:
    image = photos / "a cat.png"
    labels = ["--labels", "cat,dog", "--bundle", bundle]
    many = ",".join(f"label{i}" for i in range(100))
    run("classify", image, "--labels", many, "--bundle", bundle)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    assert "must be UTF-8 text" in complaint(
        "classify", image, "--labels", tmp_path / "latin.txt", "--bundle", bundle
    )
    assert "does not exist" in complaint("classify", tmp_path / "no.png", *labels)
    assert "it is in no image format" in complaint("classify", photos / "notes.txt", *labels)
    assert "no templates named 'fife'" in complaint(
        "classify", image, *labels, "--templates", "fife"
    )
    assert "is not a bundle" in complaint("info", tmp_path)
    assert "no precision 'int8'" in complaint("classify", image, *labels, "--precision", "int8")
    assert "device 'tpu' is unknown" in complaint("classify", image, *labels, "--device", "tpu")
    assert "give a .npz file in a folder that exists" in complaint(
        "embed", photos, "-o", tmp_path / "none" / "x.npz", "--bundle", bundle
    )
    assert "there is no file 'labels.txt'; --labels wants a file with one label per" in complaint(
        "classify", image, "--labels", "labels.txt", "--bundle", bundle
    )
    # What is quoted is shortened: nobody reads a page of a mistyped name.
    long = complaint("classify", image, "--labels", "x" * 5000 + ".txt", "--bundle", bundle)
    assert len(long) < 200
    assert "--labels wants a file" in long


def test_a_repeated_label_is_a_warning_in_one_line(photos: Path, bundle: str) -> None:
    found = run("classify", photos, "--labels", "cat,dog,cat", "--bundle", bundle)
    assert re.fullmatch(r"bareclip: warning: label 'cat' is given more than .*\n", found.stderr)
    assert len(found.stdout.splitlines()) == 2 + 2 * 3


def test_a_wrong_command_line_exits_with_2_and_names_the_help(photos: Path, tmp_path: Path) -> None:
    image, output = photos / "a cat.png", tmp_path / "x.npz"
    for said, arguments in {
        "No such command 'clasify'": ["clasify"],
        "No such option": ["--frobnicate", "info"],
        "give --labels or --classifier, one of the two": ["classify", image],
        "Missing argument 'IMAGES...'": ["classify", "--labels", "a,b"],
        "--label": ["classify", image, "--label", "a,b"],
        "Option '--labels' requires an argument": ["classify", image, "--labels"],
        "Invalid value for '--top'": ["classify", image, "--labels", "a,b", "--top", "0"],
        "is not a valid integer": ["classify", image, "--labels", "a,b", "--threads", "two"],
        "unexpected extra argument": ["index-status", "a.db", "b.db"],
        "'sometimes' is not one of": ["embed", image, "-o", output, "--on-error", "sometimes"],
        "Missing option '-o' / '--output'": ["export", "checkpoint"],
        "give either IMAGES or --texts FILE": ["embed", "-o", output],
        "give either IMAGES or --texts": ["embed", image, "--texts", "x.txt", "-o", output],
        "Missing option '--db'": ["index", photos],
        "Missing argument 'FOLDER'": ["index", "--db", "x.db"],
        "nothing to search for": ["search", "x.db"],
        "only one argument may be -": ["classify", "-", "--labels", "-"],
    }.items():
        message = complaint(*arguments, code=2)
        assert said in message
        assert re.search(r"See: (python -m )?bareclip[ a-z-]* --help\n$", message)
    for twice in (
        ["classify", "-", "-", "--labels", "a,b"],
        ["similarity", "-", "a cat", "-"],
        ["embed", "-", image, "-", "-o", output],
        ["search", "x.db", "-", "--queries", "-"],
        ["search", "x.db", "--image", "-", "-"],
    ):
        assert "only one argument may be -" in complaint(*twice, code=2)


@pytest.mark.parametrize("raised", ["ctx.exit(7)", "sys.exit(7)", "raise Seven('odd')"])
def test_other_exit_codes_pass_through(raised: str) -> None:
    code = (
        "import sys, click, bareclip.cli.main as m\n"
        "class Seven(click.ClickException): exit_code = 7\n"
        "@m.commands.command()\n"
        "@click.pass_context\n"
        f"def odd(ctx): {raised}\n"
        "@m.commands.command()\n"
        "def counts(): return 3\n"  # what a verb returns is no exit code
        "m.main()"
    )
    assert subprocess.run([sys.executable, "-c", code, "odd"], check=False).returncode == 7
    assert subprocess.run([sys.executable, "-c", code, "counts"], check=False).returncode == 0


def test_verbs_about_a_bundle_take_it_first_and_others_by_option() -> None:
    about = {"bench", "evaluate", "info", "push", "quantize", "verify", "whole"}
    # pair is about two.
    using = {
        "classify", "embed", "index", "index-import", "map", "search", "serve", "similarity",
        "tag", "teach",
    }  # fmt: skip
    context = click.Context(commands)
    verbs = {name: commands.get_command(context, name) for name in commands.list_commands(context)}
    assert using < set(verbs)
    for name, verb in verbs.items():
        assert verb
        first = next((p.name for p in verb.params if isinstance(p, click.Argument)), None)
        options = {option for parameter in verb.params for option in parameter.opts}
        assert (first == "bundle") == (name in about)
        assert ("--bundle" in options) == (name in using)
    assert "A verb about a bundle takes it as its first argument" in run("--help").stdout


def test_no_arguments_print_the_help() -> None:
    assert run("--help").stdout == run().stdout


@needs_any_name
def test_names_that_are_not_utf8(bundle: str, tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    picture(30, 20).save(os.fsdecode(raw))
    labels = ["--labels", "cat,dog", "--bundle", bundle]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "bareclip", "classify", os.fsdecode(raw), *labels]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=strict).stdout
    assert "caf\N{REPLACEMENT CHARACTER}.png" in shown


def test_folders_behind_links_and_in_circles_are_read_once(bundle: str, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
        picture(30, 20).save(place / "a.png")
    (folder / "more").symlink_to(elsewhere)
    (elsewhere / "again").symlink_to(folder)
    run("embed", folder, "-o", tmp_path / "x.npz", "--bundle", bundle)
    with np.load(tmp_path / "x.npz") as found:
        assert sorted(found["names"]) == [str(folder / "a.png"), str(folder / "more" / "a.png")]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(bareclip.BareclipError, match="gone cannot be listed: No such file or dir"):
        image_files(tmp_path / "gone")


def test_a_folder_without_images(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    message = complaint("embed", tmp_path, "-o", tmp_path / "x.npz", "--bundle", bundle)
    assert f"folder {tmp_path} holds no image files" in message


def test_a_reader_that_goes_away_is_no_traceback(photos: Path, bundle: str) -> None:
    command = [sys.executable, "-m", "bareclip", "info", bundle]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_an_error_is_one_line_however_processes_are_started(bundle: str, tmp_path: Path) -> None:
    """As macOS starts them, and Linux from Python 3.14 on."""
    code = (
        "import multiprocessing; multiprocessing.set_start_method('spawn')\n"
        "from bareclip.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "index", tmp_path / "none", "--bundle", bundle]
    command += ["--db", tmp_path / "photos.db"]
    found = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1, found.stderr


def test_interrupted_is_one_line_and_130(photos: Path, bundle: str) -> None:
    code = (
        "import bareclip.encoders as e, bareclip.cli.main as m\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "e.ImageEncoder.stream = stop\n"
        "m.main()"
    )
    command = [sys.executable, "-c", code, "similarity", str(photos / "a cat.png"), "x"]
    found = subprocess.run([*command, "--bundle", bundle], capture_output=True, text=True)
    assert (found.returncode, found.stderr.strip()) == (130, "bareclip: interrupted")

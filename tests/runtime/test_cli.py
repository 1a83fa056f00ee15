"""The command line, run in its own process as users run it."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.cli import sources
from bareclip.images.inputs import image_files
from bareclip.texts.prompts import FIVE
from tests.variants import picture


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
    *arguments: str | Path, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bareclip", *map(str, arguments)]
    found = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=120
    )
    assert found.returncode == code, found.stderr
    return found


def complaint(*arguments: str | Path) -> str:
    """The one line of an error, which is all there is."""
    found = run(*arguments, code=1)
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


def test_embed_skips_or_raises_and_keeps_what_was_there(
    photos: Path, bundle: str, tmp_path: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    output = tmp_path / "photos.npz"
    output.write_bytes(b"made before")
    message = complaint("embed", photos, "-o", output, "--bundle", bundle)
    assert "broken.png: it is in no image format" in message
    assert output.read_bytes() == b"made before"
    found = run("embed", photos, "-o", output, "--on-error", "skip", "--bundle", bundle)
    assert "skipped: cannot read image" in found.stderr
    assert "2 vectors of width 20, 1 images skipped" in found.stdout
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


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


@pytest.mark.parametrize(
    "verb",
    ["classify", "similarity", "embed", "evaluate", "index", "search", "demo", "info", "export"],
)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    help_ = run(verb, "--help").stdout
    assert f"\n  bareclip {verb} " in help_
    assert verb in run("--help").stdout
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
    assert "is a folder of 2 images; give one of them" in complaint(
        "similarity", photos, "a cat", "--bundle", bundle
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
    assert "bareclip classify --help" in complaint("classify", image, "--bundle", bundle)
    assert "No such command 'clasify'" in complaint("clasify")
    assert f"there is no file {tmp_path}/labels.txt; --labels wants" in complaint(
        "classify", image, "--labels", tmp_path / "labels.txt", "--bundle", bundle
    )
    assert "there is no file labels.txt" in complaint(
        "classify", image, "--labels", "labels.txt", "--bundle", bundle
    )
    assert "'cat' is given twice" in complaint(
        "classify", image, "--labels", "cat,cat", "--bundle", bundle
    )


def test_no_arguments_print_the_help() -> None:
    assert run("--help").stdout == run().stdout


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
        assert sorted(found["names"]) == [f"{folder}/a.png", f"{folder}/more/a.png"]


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


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that hangs up early is what some tests are about."""


class _Pictures(http.server.BaseHTTPRequestHandler):
    picture = b""

    def do_GET(self) -> None:
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/cat.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.picture)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(64):
                self.wfile.write(bytes(1 << 16))
        elif self.path == "/stalled":
            time.sleep(8)
        elif self.path == "/trickle":
            for _ in range(40):
                self.wfile.write(b"HTTP/1.0 200 OK\r\n" if _ == 0 else b"X-Header: x\r\n")
                time.sleep(0.05)
        else:
            self.send_error(404)

    def log_message(self, format: str, *_: Any) -> None:
        pass


@pytest.fixture
def server(photos: Path) -> Iterator[str]:
    _Pictures.picture = (photos / "a cat.png").read_bytes()
    with _Server(("127.0.0.1", 0), _Pictures) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_addresses_are_fetched(server: str, photos: Path, bundle: str, tmp_path: Path) -> None:
    output = tmp_path / "both.npz"
    arguments = [f"{server}/cat.png", photos / "a cat.png", f"{server}/none.png"]
    run("embed", *arguments, "-o", output, "--on-error", "skip", "--bundle", bundle)
    with np.load(output) as archive:
        np.testing.assert_allclose(archive["vectors"][0], archive["vectors"][1], atol=1e-6)
        assert archive["names"][0] == f"{server}/cat.png"
    labels = ["--labels", "cat,dog", "--bundle", bundle]
    assert "cannot download" in complaint("classify", f"{server}/none.png", *labels)
    assert "Not Found" in complaint("classify", f"{server}/none.png", *labels)
    assert "cannot download" in complaint("classify", "http://127.0.0.1:9/x.png", *labels)


def test_an_error_does_not_wait_for_what_is_still_fetched(server: str, bundle: str) -> None:
    started = time.monotonic()
    message = complaint(
        "classify", "none.png", f"{server}/stalled", "--labels", "a,b", "--bundle", bundle
    )
    assert "none.png: it does not exist" in message
    assert time.monotonic() - started < 7


def test_a_redirect_cannot_lead_to_a_file(server: str) -> None:
    with pytest.raises(bareclip.ImageError, match="cannot download"):
        sources.download(f"{server}/loop")


def test_downloads_are_limited(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_DOWNLOAD_BYTES", 1 << 20)
    with pytest.raises(bareclip.ImageError, match="it is larger than 1,048,576 bytes"):
        sources.download(f"{server}/endless")
    monkeypatch.setattr(sources, "DOWNLOAD_SECONDS", 0.3)
    with pytest.raises(bareclip.ImageError, match=r"took longer than 0\.3 seconds"):
        sources.download(f"{server}/trickle")


def test_interrupted_is_one_line_and_130(photos: Path, bundle: str) -> None:
    code = (
        "import bareclip.clip as c, bareclip.cli.main as m\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "c.Clip.embed_images = stop\n"
        "m.main()"
    )
    command = [sys.executable, "-c", code, "similarity", str(photos / "a cat.png"), "x"]
    found = subprocess.run([*command, "--bundle", bundle], capture_output=True, text=True)
    assert (found.returncode, found.stderr.strip()) == (130, "bareclip: interrupted")

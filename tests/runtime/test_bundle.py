import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import BundleError
from bareclip.bundle import Bundle, file_record
from tests.machine import needs_posix

TEXT = {
    "context_length": 9,
    "pad_id": 0,
    "end_id": 0,
    "fixed_length": False,
    "clean_up": [],
}


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(bundles["tiny"], tmp_path / "bundle"))


def edit(bundle: Path, change: dict[str, Any]) -> None:
    manifest = bundle / "bundle.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))


def test_writing_what_was_read_changes_nothing(bundle: Path) -> None:
    before = (bundle / "bundle.json").read_bytes()
    read = Bundle.read(bundle)
    read.write()
    assert (bundle / "bundle.json").read_bytes() == before
    assert Bundle.read(bundle) == read


def test_every_file_is_recorded_with_its_checksum(bundle: Path) -> None:
    on_disk = {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()}
    read = Bundle.read(bundle)
    assert set(read.files()) | {"bundle.json"} == on_disk
    assert read.damage() == []


def test_a_changed_byte_is_found_by_checksum(bundle: Path) -> None:
    path = bundle / "fp32" / "text.onnx.data"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert Bundle.read(bundle).damage() == ["fp32/text.onnx.data"]


def test_a_truncated_or_missing_file_is_refused_by_name(bundle: Path) -> None:
    path = bundle / "fp32" / "vision.onnx.data"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=f"vision.onnx.data is {size - 1} bytes, .* {size} bytes"):
        bareclip.load(bundle)
    path.unlink()
    with pytest.raises(BundleError, match=r"vision.onnx.data is missing"):
        bareclip.load(bundle)


def test_no_bundle_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: it has no bundle.json; .* export"):
        bareclip.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format version 2; this bareclip reads 1: update"),
        ({"colour": 1}, "unknown field 'colour' in"),
        ({"embedding_dim": "20"}, "embedding_dim holds '20'"),
        ({"embedding_dim": True}, "embedding_dim holds True"),
        ({"scoring": {"function": "softmax", "logit_scale": 1}}, "field 'logit_bias' is missing"),
        (
            {"scoring": {"function": "softplus", "logit_scale": 1, "logit_bias": 0}},
            "unsupported value 'softplus' at .*knows 'softmax', 'sigmoid'",
        ),
        ({"source": []}, "not an object"),
        (
            {"scoring": {"function": "softmax", "logit_scale": float("nan"), "logit_bias": 0}},
            "logit_scale holds nan",
        ),
        (
            {"scoring": {"function": "softmax", "logit_scale": 10**400, "logit_bias": 0}},
            "logit_scale holds",
        ),
        ({"text": TEXT | {"context_length": 1}}, "lacks a context_length"),
        ({"text": TEXT | {"context_length": 10**30}}, "context_length holds"),
        ({"text": TEXT | {"context_length": 10**9}}, "lacks a context_length"),
        ({"text": TEXT | {"pad_id": -1}}, "lacks a pad_id"),
        ({"text": TEXT | {"clean_up": ["stem"]}}, "unsupported value 'stem' at .*clean_up"),
        ({"text": None}, "lacks a tokenizer with its text recipe, or neither"),
        ({"tokenizer": None}, "lacks a tokenizer with its text recipe, or neither"),
        ({"text": None, "tokenizer": None}, "lacks recipes for the towers that it has"),
        ({"text": None, "tokenizer": None, "image": None}, "lacks a tower"),
    ],
)
def test_what_a_manifest_may_not_say(bundle: Path, change: dict[str, Any], message: str) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=message):
        Bundle.read(bundle)


def test_an_unknown_resize_mode_is_refused_with_those_known(bundle: Path) -> None:
    image = dataclasses.asdict(Bundle.read(bundle).image)
    edit(bundle, {"image": image | {"resize": "longest"}})
    with pytest.raises(BundleError, match="'longest' at .*: image: resize; .*'shortest', 'squash'"):
        Bundle.read(bundle)


def test_a_manifest_may_not_reach_outside_its_folder(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    read = Bundle.read(bundle)
    vision = read.precisions["fp32"]["vision"]
    files = vision.files | {"../secret": file_record(tmp_path / "secret")}
    precisions = {
        "fp32": read.precisions["fp32"] | {"vision": dataclasses.replace(vision, files=files)}
    }
    dataclasses.replace(read, precisions=precisions).write()
    with pytest.raises(BundleError, match=r"'../secret', outside the bundle"):
        Bundle.read(bundle)


def test_a_bundle_of_links_is_one(bundle: Path, tmp_path: Path) -> None:
    blobs, links = tmp_path / "blobs", tmp_path / "links"
    for number, path in enumerate(p for p in bundle.rglob("*") if p.is_file()):
        blob, link = blobs / str(number), links / path.relative_to(bundle)
        for place in (blob, link):
            place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(blob)
    assert Bundle.read(links).damage() == []
    found = bareclip.load(links).embed_texts(["a cat"])
    np.testing.assert_array_equal(found, bareclip.load(bundle).embed_texts(["a cat"]))


def test_a_manifest_that_is_no_json(bundle: Path) -> None:
    (bundle / "bundle.json").write_text('{"format_version": 1')
    with pytest.raises(BundleError, match="cannot read .*export the bundle again"):
        Bundle.read(bundle)


def test_a_precision_that_is_not_there(bundle: Path) -> None:
    with pytest.raises(BundleError, match="no precision 'int8'; it has fp32"):
        bareclip.load(bundle, precision="int8")


def _field(number: int, size: int) -> bytes:
    """One field of a protocol buffer, of text, that is so many bytes in all."""
    length = size - 4
    return bytes([number << 3 | 2, length & 127 | 128, length >> 7 & 127 | 128, length >> 14]) + (
        b"x" * length
    )


def test_a_graph_that_onnx_runtime_cannot_load(bundle: Path) -> None:
    path = bundle / "fp32" / "vision.onnx"
    size = path.stat().st_size
    # Zeros are no ONNX file; a description and nothing else is one, and no graph.
    for data, message in (
        (bytes(size), "cannot read .*vision.onnx as an ONNX graph"),
        (_field(6, size), r"ONNX Runtime [\d.]+ cannot load .*vision.onnx"),
    ):
        path.write_bytes(data[:size].ljust(size, b"\0"))
        with pytest.raises(BundleError, match=message):
            bareclip.load(bundle, preload=True)


def test_a_graph_of_another_size_is_refused(bundle: Path) -> None:
    image = dataclasses.asdict(Bundle.read(bundle).image)
    edit(bundle, {"image": image | {"size": 16}})
    with pytest.raises(BundleError, match=r"32, 32, 3\], .* where its bundle says .*16, 16, 3"):
        bareclip.load(bundle, preload=True)


def test_a_broken_tokenizer_is_named(bundle: Path) -> None:
    path = bundle / "tokenizer.json"
    path.write_bytes(b"[" + b" " * (path.stat().st_size - 1))
    with pytest.raises(BundleError, match=r"cannot read tokenizer .*tokenizer.json"):
        bareclip.load(bundle, preload=True)


def test_numbers_that_would_mislead(bundle: Path) -> None:
    image = dataclasses.asdict(Bundle.read(bundle).image)
    edit(bundle, {"image": image | {"resize_to": 16}})
    with pytest.raises(BundleError, match="lacks an image size of at least 1, and a resize_to"):
        Bundle.read(bundle)


def test_a_graph_must_be_among_the_checked_files(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle / "fp32", tmp_path / "outside")
    precisions = json.loads((bundle / "bundle.json").read_text())["precisions"]
    precisions["fp32"]["vision"]["graph"] = "../outside/vision.onnx"
    edit(bundle, {"precisions": precisions})
    with pytest.raises(BundleError, match="lacks graphs that are among their files"):
        bareclip.load(bundle)


def test_a_graph_of_another_width_is_refused(bundle: Path) -> None:
    edit(bundle, {"embedding_dim": 7})
    with pytest.raises(BundleError, match=r"\[None, 20\]\], where its bundle says .*\[None, 7\]"):
        bareclip.load(bundle, preload=True)


def test_deep_json_and_nul_names(bundle: Path) -> None:
    precisions = json.loads((bundle / "bundle.json").read_text())["precisions"]
    files = precisions["fp32"]["vision"]["files"]
    files["a\0b"] = {"size": 1, "sha256": "x"}
    edit(bundle, {"precisions": precisions})
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle.read(bundle)
    (bundle / "bundle.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match="cannot read"):
        Bundle.read(bundle)


def test_a_graph_for_a_newer_onnx_runtime_says_which(bundle: Path) -> None:
    precisions = json.loads((bundle / "bundle.json").read_text())["precisions"]
    precisions["fp32"]["text"]["onnxruntime"] = "99.1"
    edit(bundle, {"precisions": precisions})
    with pytest.raises(bareclip.DeviceError, match=r"text.onnx needs ONNX Runtime 99\.1 or newer"):
        bareclip.load(bundle, preload=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and devices")
def test_a_manifest_that_never_ends_is_not_read(bundle: Path) -> None:
    for place in ("/dev/zero", bundle / "pipe"):
        (bundle / "bundle.json").unlink()
        if place != "/dev/zero":
            os.mkfifo(place)
        (bundle / "bundle.json").symlink_to(place)
        with pytest.raises(BundleError, match="cannot read .*it is no regular file"):
            Bundle.read(bundle)
    (bundle / "bundle.json").unlink()
    with (bundle / "bundle.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(BundleError, match="it has 1,099,511,627,776 bytes, more than"):
        Bundle.read(bundle)


_AS_NOBODY = """
import os, sys
import bareclip
from bareclip.bundle import Bundle

if os.geteuid() == 0:
    os.setuid(65534)
try:
    Bundle.read(__import__("pathlib").Path(sys.argv[1]))
except bareclip.BundleError as error:
    print(error)
"""


@needs_posix
def test_a_folder_that_may_not_be_read_says_so(bundle: Path) -> None:
    """As one that belongs to another user than a container's."""
    (bundle / "bundle.json").chmod(0o000)
    command = [sys.executable, "-c", _AS_NOBODY, str(bundle)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "bundle.json: Permission denied; let this user read the folder" in told


def test_numbers_that_are_none_are_refused(bundle: Path) -> None:
    text = (bundle / "bundle.json").read_text()
    for number in ("NaN", "Infinity", "-Infinity"):
        changed = re.sub(r'"logit_scale": [^,]+', f'"logit_scale": {number}', text)
        (bundle / "bundle.json").write_text(changed)
        with pytest.raises(BundleError, match="logit_scale holds"):
            Bundle.read(bundle)

"""The graph cache: the same answers, nobody else's, and never in the way."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip.bundle import Bundle
from bareclip.errors import BareclipError, BundleError, DeviceError
from bareclip.inference import graph_cache
from bareclip.inference.threads import Threads
from tests.machine import needs_posix
from tests.runtime.test_cli import run
from tests.variants import picture

TEXTS = ["a photo of a cat", "", "two dogs " * 20]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that takes the tests' small towers too."""
    monkeypatch.setenv("BARECLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(graph_cache, "SMALLEST_BYTES", 0)
    return tmp_path / "cache"


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles["tiny"], tmp_path / "bundle"))


def answers(bundle: Path, **options: bool) -> NDArray[np.float32]:
    clip = bareclip.load(bundle, **options)  # type: ignore[arg-type]
    return np.concatenate([clip.embed_texts(TEXTS), clip.embed_images([picture(90, 60)])])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_kept_tower_answers_as_the_bundles_own(bundle: Path, cache: Path) -> None:
    plain = answers(bundle, cache=False)
    assert not cache.exists()
    first = answers(bundle)
    found = graph_cache.entries()
    assert {Path(entry.graph).name for entry in found} == {"vision.onnx", "text.onnx"}
    # From the entries alone: the bundle's own graphs are made useless, size and all else kept.
    for tower in ("vision", "text"):
        graph = bundle / "fp32" / f"{tower}.onnx"
        graph.write_bytes(bytes(graph.stat().st_size))
    second = answers(bundle)
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_allclose(second, plain, atol=1e-7)


def test_small_towers_are_not_worth_an_entry(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_cache, "SMALLEST_BYTES", 16 * 1024**2)
    answers(bundle)
    assert not cache.exists()


def test_an_entry_is_for_its_version_and_cpu(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = Bundle.read(bundle).tower("fp32", "text")
    vision = Bundle.read(bundle).tower("fp32", "vision")

    def engine() -> str:
        return graph_cache.onnxruntime_engine().name

    names = {graph_cache._key(tower, engine()), graph_cache._key(vision, engine())}
    with monkeypatch.context() as patch:
        patch.setattr("onnxruntime.__version__", "1.99.0")
        names.add(graph_cache._key(tower, engine()))
    monkeypatch.setattr(graph_cache, "cpu_kind", lambda: "another")
    names.add(graph_cache._key(tower, engine()))
    assert len(names) == 4


@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing", "{", "[]", "null"])
def test_a_damaged_entry_is_made_again(bundle: Path, cache: Path, damage: str) -> None:
    plain = answers(bundle)
    before = contents(cache)
    for entry in graph_cache.entries():
        [graph] = entry.folder.glob("*.onnx")
        if damage == "truncated":
            graph.write_bytes(graph.read_bytes()[:-1])
        elif damage == "garbage":
            graph.write_bytes(os.urandom(graph.stat().st_size))
        elif damage == "missing":
            graph.unlink()
        else:
            (entry.folder / "entry.json").write_text(damage)
    assert run("cache").stdout.startswith(f"{cache}: ")
    np.testing.assert_array_equal(answers(bundle), plain)
    assert contents(cache).keys() == before.keys()
    np.testing.assert_allclose(answers(bundle), plain, atol=1e-7)


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = answers(bundle, cache=False)
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("BARECLIP_CACHE", str(place))
        np.testing.assert_array_equal(answers(bundle), plain)
        assert graph_cache.entries() == []
    monkeypatch.setenv("BARECLIP_CACHE", "off")
    np.testing.assert_array_equal(answers(bundle), plain)
    assert run("cache").stdout == "the cache is off: BARECLIP_CACHE says so\n"


def test_another_users_cache_is_no_obstacle(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = answers(bundle)

    def denying(method: str) -> Callable[..., Any]:
        allowed = getattr(Path, method)

        def call(path: Path, *given: Any, **named: Any) -> Any:
            if cache in path.parents:
                raise PermissionError(13, "Permission denied", str(path))
            return allowed(path, *given, **named)

        return call

    # As its mode would for any user but root.
    for method in ("stat", "open", "exists", "rename", "mkdir"):
        monkeypatch.setattr(Path, method, denying(method))
    np.testing.assert_array_equal(answers(bundle), plain)


def test_without_a_home_there_is_no_cache(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = answers(bundle, cache=False)

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("BARECLIP_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    np.testing.assert_array_equal(answers(bundle), plain)
    with pytest.raises(BareclipError, match="no home folder to keep a cache in: BARECLIP_CACHE"):
        graph_cache.entries()


def test_a_full_disk_is_no_obstacle(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = answers(bundle, cache=False)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        np.testing.assert_array_equal(answers(bundle), plain)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", full)
        np.testing.assert_array_equal(answers(bundle), plain)
    usage = shutil.disk_usage(cache)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        np.testing.assert_array_equal(answers(bundle), plain)
    assert [path.name for path in cache.iterdir()] == [".lock"]


@pytest.mark.parametrize("error", [BundleError, DeviceError])
def test_a_model_that_cannot_be_saved_is_loaded_as_it_is(
    bundle: Path, cache: Path, error: type[BareclipError]
) -> None:
    usual = graph_cache.onnxruntime_engine()

    def make(graph: Path, threads: Threads, save_to: Path | None) -> Any:
        if save_to is not None:
            raise error("it can be compiled, and not saved")
        return usual.make(graph, threads, None)

    tower = Bundle.read(bundle).tower("fp32", "text")
    engine = graph_cache.Engine("one that saves nothing", make, usual.open)
    session, where = graph_cache.cached_session(bundle, tower, Threads(1), engine)
    assert session.get_outputs()[0].shape[1] == 20
    assert where == bundle / tower.graph
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_the_longest_unused_make_room(
    bundles: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(bundles["tiny"])
    kept = graph_cache.entries()
    for entry in kept:
        os.utime(entry.folder / "entry.json", (1, 1))
    abandoned = cache / f".{40 * 'a'}.{8 * '0'}.partial"
    abandoned.mkdir()
    os.utime(abandoned, (1, 1))
    monkeypatch.setattr(graph_cache, "LIMIT_BYTES", sum(entry.size for entry in kept))
    answers(bundles["odd"])
    names = [Path(entry.graph).parts[-3] for entry in graph_cache.entries()]
    assert names[:2] == ["odd", "odd"]
    assert len(names) < 4
    assert not abandoned.exists()


def test_many_processes_at_once(bundle: Path, cache: Path) -> None:
    code = (
        "import sys, bareclip\n"
        "from bareclip.inference import graph_cache; graph_cache.SMALLEST_BYTES = 0\n"
        "print(bareclip.load(sys.argv[1]).embed_texts(['a cat'])[0].tolist())"
    )
    command = [sys.executable, "-c", code, str(bundle)]

    def start(_: int) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(start, range(6)))
    vectors = np.array([json.loads(line) for line in told])
    np.testing.assert_allclose(vectors, vectors[:1].repeat(6, axis=0), atol=1e-7)
    assert not list(cache.glob(".*.partial"))
    assert len(graph_cache.entries()) == len(set(graph_cache.entries())) >= 1


@needs_posix
def test_a_killed_process_leaves_no_broken_entry(bundle: Path, cache: Path) -> None:
    code = (
        "import os, sys, bareclip\n"
        "from bareclip.inference import graph_cache; graph_cache.SMALLEST_BYTES = 0\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), 9)\n"
        "bareclip.load(sys.argv[1], preload=True)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(bundle)], check=False)
    assert found.returncode == -9
    assert graph_cache.entries() == []
    plain = answers(bundle)  # and the killed one's lock is gone with it
    assert len(graph_cache.entries()) == 2
    np.testing.assert_allclose(answers(bundle), plain, atol=1e-7)


def test_the_command(bundle: Path, cache: Path) -> None:
    answers(bundle)
    killed = cache / f".{40 * 'b'}.{8 * '1'}.partial"
    killed.mkdir()
    (killed / "text.onnx").write_bytes(bytes(10**6))
    shown = run("cache").stdout
    assert f"{cache}: 2 towers, " in shown
    assert "bundle/fp32/vision.onnx" in shown
    told = json.loads(run("cache", "--json").stdout)
    assert len(told["entries"]) == 2
    assert all(entry["bytes"] > 10_000 for entry in told["entries"])
    assert run("cache", "--clear").stdout.startswith(f"{cache}: removed 2 towers, ")
    assert graph_cache.entries() == []
    assert [path.name for path in cache.iterdir()] == [".lock"]


def alter(path: Path) -> None:
    """Other bytes of the same size, in its middle."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(255 - byte for byte in data[middle : middle + 64])
    path.write_bytes(data)


def test_a_bundle_that_claims_anothers_checksums_poisons_nothing(
    bundle: Path, cache: Path, tmp_path: Path
) -> None:
    right = answers(bundle, cache=False)
    tampered = Path(shutil.copytree(bundle, tmp_path / "tampered"))
    for tower in ("text", "vision"):
        alter(tampered / "fp32" / f"{tower}.onnx.data")
    with pytest.raises(bareclip.BundleError, match=r"tampered is damaged, its checksums differ: "):
        answers(tampered)
    assert graph_cache.entries() == []
    np.testing.assert_array_equal(answers(bundle), right)
    np.testing.assert_array_equal(answers(bundle), right)
    assert len(graph_cache.entries()) == 2


@pytest.mark.parametrize("restored", [False, True])
def test_an_entry_that_rots_is_made_again(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    right = answers(bundle)
    monkeypatch.setattr(graph_cache, "_ALWAYS_CHECKED", 0)
    for entry in graph_cache.entries():
        for path in entry.folder.glob("*.data" if restored else "*.onnx"):
            times = path.stat()
            alter(path)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    np.testing.assert_array_equal(answers(bundle), right)
    names = [entry.folder.name for entry in graph_cache.entries()]
    assert len(names) == 2


def test_an_entry_that_was_copied_is_looked_through_once(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = answers(bundle)
    monkeypatch.setattr(graph_cache, "_ALWAYS_CHECKED", 0)
    copied = Path(shutil.copytree(cache, cache.with_name("copied")))
    shutil.rmtree(cache)
    copied.rename(cache)
    looked: list[Path] = []
    inner = graph_cache.file_record
    monkeypatch.setattr(graph_cache, "file_record", lambda p: (looked.append(p), inner(p))[1])
    np.testing.assert_array_equal(answers(bundle), right)
    assert len(looked) == 4
    np.testing.assert_array_equal(answers(bundle), right)
    assert len(looked) == 4


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners of files")
def test_a_folder_that_others_may_write_to_is_not_used(bundle: Path, cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    right = answers(bundle, cache=False)
    np.testing.assert_array_equal(answers(bundle), right)
    assert [*cache.iterdir()] == []
    cache.chmod(0o755)
    answers(bundle)
    assert len(graph_cache.entries()) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_another_users_folder_is_not_used(bundle: Path, cache: Path) -> None:
    cache.mkdir(mode=0o700)
    os.chown(cache, 12345, 12345)
    answers(bundle)
    assert [*cache.iterdir()] == []


def test_its_own_folder_is_the_users_alone(bundle: Path, cache: Path) -> None:
    answers(bundle)
    assert cache.stat().st_mode & 0o777 == 0o700


def test_links_in_the_cache_are_not_followed(bundle: Path, cache: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "entry.json").write_text('{"graph": "x", "onnxruntime": "1", "files": {}}')
    cache.mkdir(mode=0o700)
    (cache / ".lock").symlink_to(tmp_path / "precious")
    (cache / ("c" * 40)).symlink_to(elsewhere)
    answers(bundle)
    assert not (tmp_path / "precious").exists()
    graph_cache.clear()
    assert (elsewhere / "entry.json").exists()


def test_clearing_takes_nothing_else(cache: Path) -> None:
    for name in ("photos", ".mine.partial", ".x.abcdef01.partial"):
        (cache / name).mkdir(parents=True)
        (cache / name / "entry.json").write_text('{"graph": "x", "onnxruntime": "1", "files": {}}')
    graph_cache.clear()
    assert len([*cache.iterdir()]) == 3


def test_a_tilde_is_the_users_home(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("BARECLIP_CACHE", "~/mine")
    answers(bundle)
    assert len([*(tmp_path / "mine").glob("*/entry.json")]) == 2

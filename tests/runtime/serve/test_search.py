"""/v1/search over a photo index, with thumbnails by id; immich's protocol."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip.serve.search import Seal

from .running import PICTURES, Running


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, bareclip.Index]]:
    database = tmp_path_factory.mktemp("search") / "photos.db"
    with bareclip.load() as clip, bareclip.Index.open(database, clip) as index:
        index.sync(PICTURES)
        index.add(["from elsewhere"], clip.embed_texts(["a cat"]), [{"kind": "text"}])
        with Running("--db", database, "--immich", "ViT-B-32__openai") as running:
            yield running, index


def found(running: Running, **request: Any) -> Any:
    answer = httpx.post(running.url + "/v1/search", json=request, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_search_by_text_picture_and_both(searched: tuple[Running, bareclip.Index]) -> None:
    running, index = searched
    cat = (PICTURES / "cat.png").read_bytes()
    with bareclip.load() as clip:
        text, image = clip.embed_texts(["a dog"])[0], clip.embed_images([cat])[0]
    encoded = base64.b64encode(cat).decode()
    asked = (({"text": "a dog"}, text), ({"image": encoded}, image))
    both = ({"text": "a dog", "image": encoded}, (text + image) / 2)
    for request, vector in (*asked, both):
        right = index.search(vector, k=5)
        hits = found(running, **request, k=5)
        assert [hit["item"] for hit in hits] == [hit.item for hit in right]
        similarities = [hit.similarity for hit in right]
        assert [hit["similarity"] for hit in hits] == pytest.approx(similarities, abs=1e-6)
    raw = httpx.post(
        running.url + "/v1/search", params={"k": 1}, content=cat,
        headers={"Content-Type": "image/png"},
    ).json()["results"]  # fmt: skip
    assert [hit["name"] for hit in raw] == ["cat.png"]
    assert found(running, text="a dog", min_similarity=2) == []


def test_thumbnails(searched: tuple[Running, bareclip.Index]) -> None:
    running, _ = searched
    hits = found(running, text="a cat", k=50)
    assert [hit["name"] for hit in hits if hit["thumbnail"] is None] == ["from elsewhere"]
    for hit in hits:
        if hit["thumbnail"] is None:
            continue
        answer = httpx.get(running.url + hit["thumbnail"])
        with Image.open(io.BytesIO(answer.content)) as small, Image.open(hit["item"]) as whole:
            assert small.format == "JPEG"
            assert max(small.size) <= 320
            shown = small.convert("RGB").resize((16, 16))
            over = Image.new("RGBA", whole.size, "white")
            over.alpha_composite(whole.convert("RGBA"))
            right = over.convert("RGB").resize((16, 16))
            assert np.abs(np.asarray(shown, int) - np.asarray(right, int)).mean() < 6


def test_ids_are_made_by_the_service_alone(searched: tuple[Running, bareclip.Index]) -> None:
    running, _ = searched
    [hit] = found(running, text="a cat", k=1, min_similarity=0.5)[:1] or found(
        running, text="a cat", k=1
    )
    path = next(h for h in found(running, text="a cat", k=9) if h["thumbnail"])["thumbnail"]
    name = path.rsplit("/", 1)[1]
    secret = base64.urlsafe_b64encode(b"/etc/passwd").decode().rstrip("=")
    tampered = name[:-4] + ("AAAA" if not name.endswith("AAAA") else "BBBB")
    foreign = Seal(b"another secret").close(b"/etc/passwd")
    for wrong in (secret, tampered, foreign, "a", "", "%00", "..%2f..%2fetc%2fpasswd", "A" * 5000):
        assert httpx.get(running.url + "/v1/thumbnails/" + wrong).status_code == 404, wrong
    assert httpx.get(running.url + path).status_code == 200
    assert b"cat" not in base64.urlsafe_b64decode(name + "=" * (-len(name) % 4))
    assert hit["item"]


@pytest.mark.parametrize(
    "request_",
    [{}, {"k": 3}, {"text": "a", "k": 0}, {"text": "a", "k": 1001}, {"text": "a", "k": "3"},
     {"text": ["a"]}, {"image": "/etc/pass.wd"}, {"text": "a", "min_similarity": "x"}],
)  # fmt: skip
def test_searches_that_are_refused(
    searched: tuple[Running, bareclip.Index], request_: dict[str, Any]
) -> None:
    answer = httpx.post(searched[0].url + "/v1/search", json=request_)
    assert answer.status_code == 400, answer.text


def test_an_index_of_another_model_ends_it(bundles: dict[str, Path], tmp_path: Path) -> None:
    with (
        bareclip.load(bundles["odd"]) as clip,
        bareclip.Index.open(tmp_path / "x.db", clip) as index,
    ):
        index.sync(PICTURES)
    with pytest.raises(RuntimeError, match="not ready"):
        Running("--db", tmp_path / "x.db")
    with pytest.raises(RuntimeError, match="no index"):
        Running("--db", tmp_path / "missing.db")


def entries(kind: str, name: str = "ViT-B-32__openai", task: str = "clip") -> dict[str, str]:
    return {"entries": json.dumps({task: {kind: {"modelName": name, "options": {}}}})}


def test_immich_protocol(searched: tuple[Running, bareclip.Index]) -> None:
    running, _ = searched
    url = running.url + "/predict"
    assert httpx.get(running.url + "/ping").text == "pong"
    turned = Image.open(PICTURES / "cat.png").convert("RGB").resize((80, 40))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter, which immich's own service does not do
    file = io.BytesIO()
    turned.save(file, "JPEG", exif=exif)
    answer = httpx.post(url, data=entries("visual"), files={"image": file.getvalue()}).json()
    with bareclip.load(reading="as_stored") as stored:
        right = stored.embed_images([file.getvalue()])[0]
        words = stored.embed_texts(["a cat"])[0]
    assert (answer["imageWidth"], answer["imageHeight"]) == (80, 40)
    assert np.array_equal(np.array(json.loads(answer["clip"]), np.float32), right)
    answer = httpx.post(url, data={**entries("textual"), "text": "a cat"}).json()
    assert list(answer) == ["clip"]
    assert np.array_equal(np.array(json.loads(answer["clip"]), np.float32), words)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (entries("visual", "ViT-L-14__openai"), 404, "ViT-B-32__openai"),
        (entries("detection", task="facial-recognition"), 400, "another address"),
        ({"entries": "{"}, 400, "entries"),
        ({"entries": "[1]"}, 400, "entries"),
        ({"text": "a"}, 400, "entries"),
        (entries("textual"), 400, "text"),
        (entries("visual"), 400, "image"),
    ],
)
def test_immich_is_told_what_is_not_done(
    searched: tuple[Running, bareclip.Index], data: dict[str, str], status: int, said: str
) -> None:
    form = {name: (None, value) for name, value in data.items()}
    answer = httpx.post(searched[0].url + "/predict", files=form)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]

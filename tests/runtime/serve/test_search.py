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
from bareclip.index.filters import FILTERS
from bareclip.serve.search import Seal

from .running import PICTURES, Running


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, bareclip.Index]]:
    database = tmp_path_factory.mktemp("search") / "photos.db"
    with bareclip.load() as clip, bareclip.Index.open(database, clip) as index:
        index.sync(PICTURES)
        index.add(["from elsewhere"], clip.embed_texts(["a cat"]), [{"kind": "text"}])
        dated = [{"taken": f"20{year}-06-15T10:00:00"} for year in (19, 20, 21)]
        index.add(["x1", "x2", "y1"], clip.embed_texts(["a dog", "a bird", "a fish"]), dated)
        index.tag(clip.classifier(["cat", "dog", "a fish"]), threshold=0.3)
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
    without = {hit["name"] for hit in hits if hit["thumbnail"] is None}
    assert without == {"from elsewhere", "x1", "x2", "y1"}
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
     {"text": ["a"]}, {"image": "/etc/pass.wd"}, {"text": "a", "min_similarity": "x"},
     {"text": "a", "min_similarity": float("nan")}, {"text": "a", "min_similarity": 10**400}],
)  # fmt: skip
def test_searches_that_are_refused(
    searched: tuple[Running, bareclip.Index], request_: dict[str, Any]
) -> None:
    # By json.dumps, since httpx writes no NaN.
    answer = httpx.post(
        searched[0].url + "/v1/search",
        content=json.dumps(request_),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    "given",
    [
        {"tag": "dog"},
        {"after": "2020", "before": "2021-06-15T10:00"},
        {"under": "x"},
        {"under": str(PICTURES / "c")},
        {"under": str(PICTURES), "tag": "cat", "after": "2000"},
        {"under": "/nowhere"},
    ],
)
def test_filters_are_the_indexs(
    searched: tuple[Running, bareclip.Index], given: dict[str, str]
) -> None:
    running, index = searched
    hits = found(running, text="a dog", k=50, **given)
    right: Any = index.search("a dog", k=50, **given)  # type: ignore[arg-type]
    assert [hit["item"] for hit in hits] == [hit.item for hit in right]
    assert len(hits) < 16
    # A picture as the body has them in the address.
    cat = (PICTURES / "cat.png").read_bytes()
    raw = httpx.post(
        running.url + "/v1/search", params={"k": 50, "min_similarity": 0.3, **given}, content=cat,
        headers={"Content-Type": "image/png"},
    ).json()["results"]  # fmt: skip
    with bareclip.load() as clip:
        vector = clip.embed_images([cat])[0]
    right = index.search(vector, k=50, min_similarity=0.3, **given)  # type: ignore[arg-type]
    assert [hit["item"] for hit in raw] == [hit.item for hit in right]


def test_a_request_makes_the_service_look_at_no_path(
    searched: tuple[Running, bareclip.Index], tmp_path: Path
) -> None:
    running, index = searched
    (tmp_path / "link").symlink_to(PICTURES)
    assert index.search("a dog", under=tmp_path / "link")
    assert found(running, text="a dog", under=str(tmp_path / "link")) == []
    assert found(running, text="a dog", under="~") == []
    assert len(found(running, text="a dog", k=50, under="")) == 16


def test_filters_are_described(searched: tuple[Running, bareclip.Index]) -> None:
    described = httpx.get(searched[0].url + "/openapi.json").json()["paths"]["/v1/search"]["post"]
    content = described["requestBody"]["content"]["application/json"]
    for name, text in FILTERS.items():
        assert content["schema"]["properties"][name] == {"type": "string", "description": text}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"under": 3}, "under is a string"),
        ({"tag": ["cat"]}, "tag is a string"),
        ({"after": "June"}, "after is a date, or the beginning of one: 2024, 2024-06, "),
        ({"before": "2024-13"}, "before is a date"),
        ({"before": 2024}, "before is a string"),
        ({"tag": "s3cret"}, "the index has no such tag: its 3 tags are 'cat', 'dog', 'a fish'"),
    ],
)
def test_filters_that_are_refused(
    searched: tuple[Running, bareclip.Index], given: dict[str, Any], message: str
) -> None:
    answer = httpx.post(searched[0].url + "/v1/search", json={"text": "a", **given})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["param"] in given
    # Nothing of the request, nor of where the index lies.
    assert not any(word in error["message"] for word in ("June", "s3cret", "photos.db"))


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

"""What clients get: vectors that are the library's, and errors that say what would be right."""

import base64
import io
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

import bareclip
from tests.variants import picture

from .running import Running


def png(seed: int, width: int = 60, height: int = 50) -> bytes:
    file = io.BytesIO()
    picture(width, height, seed).save(file, "PNG")
    return file.getvalue()


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def vectors(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]
    assert [one["index"] for one in found] == list(range(len(found)))
    return np.array([one["embedding"] for one in found], np.float32)


@pytest.mark.parametrize("form", ["default", "float", "base64"])
def test_openai_client(service: Running, library: bareclip.Clip, form: str) -> None:
    texts = ["a cat", "", "a photo of a red circle " * 20]
    with openai.OpenAI(base_url=service.url + "/v1", api_key="none") as client:
        options: dict[str, Any] = {} if form == "default" else {"encoding_format": form}
        answer = client.embeddings.create(model=library.bundle.name, input=texts, **options)
        [model] = client.models.list().data
    found: Any = [one.embedding for one in answer.data]
    if form == "base64":
        found = [np.frombuffer(base64.b64decode(one), "<f4") for one in found]
    assert np.array_equal(np.array(found, np.float32), library.embed_texts(texts))
    tokens = sum(map(len, library.texts.tokenizer.encode(texts, truncate=True)))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (tokens, tokens)
    assert model.id == library.bundle.name


def test_openai_client_sees_what_was_wrong(service: Running, library: bareclip.Clip) -> None:
    with openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0) as client:
        name = library.bundle.name
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model=name, input="a", dimensions=7)
        assert caught.value.param == "dimensions"
        with pytest.raises(openai.NotFoundError) as missing:
            client.embeddings.create(model="text-embedding-3-small", input="a")
        assert missing.value.code == "model_not_found"
        width = library.bundle.embedding_dim
        assert client.embeddings.create(model=name, input="a", dimensions=width).data


def test_pictures_and_texts_mixed(client: httpx.Client, library: bareclip.Clip) -> None:
    files = [png(seed) for seed in range(3)]
    items = [{"image": uri(files[0])}, "a cat", {"image": uri(files[1])}, {"text": "a dog"}]
    found = vectors(
        client.post("/v1/embeddings", json={"input": [*items, {"image": uri(files[2])}]})
    )
    assert np.array_equal(found[[0, 2, 4]], library.embed_images(files))
    assert np.array_equal(found[[1, 3]], library.embed_texts(["a cat", "a dog"]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_raw_bytes_of_each_format(client: httpx.Client, library: bareclip.Clip, kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    file = io.BytesIO()
    picture(70, 90, 5).save(file, kind)
    headers = {"Content-Type": f"image/{kind.lower()}"}
    answer = client.post("/v1/embeddings", content=file.getvalue(), headers=headers)
    assert np.array_equal(vectors(answer), library.embed_images([file.getvalue()]))


@pytest.mark.parametrize("ensemble", ["embedding", "probability"])
@pytest.mark.parametrize("templates", ["plain", "five", "art of a {}", ["a {}", "the {}"]])
def test_classify(
    client: httpx.Client, library: bareclip.Clip, templates: Any, ensemble: Any
) -> None:
    files, labels = [png(seed) for seed in range(3)], ["cat", "dog", "red circle"]
    request = {
        "input": [{"image": uri(data)} for data in files], "labels": labels,
        "templates": templates, "ensemble": ensemble, "top": 2,
    }  # fmt: skip
    for _ in range(2):  # embedded, and kept
        answer = client.post("/v1/classify", json=request).json()
        expected = library.classify(files, labels, templates=templates, ensemble=ensemble, top=2)
        for one, right in zip(answer["data"], expected, strict=True):
            assert one["prediction"] == right[0].label
            assert [p["label"] for p in one["predictions"]] == [p.label for p in right]
            scores = [p["score"] for p in one["predictions"]]
            assert scores == pytest.approx([p.probability for p in right], rel=1e-6)


def test_classify_raw_bytes_with_options_in_the_address(
    client: httpx.Client, library: bareclip.Clip
) -> None:
    data = png(3)
    answer = client.post(
        "/v1/classify", params={"labels": "cat, dog", "top": 1, "templates": "five"},
        content=data, headers={"Content-Type": "image/png"},
    ).json()  # fmt: skip
    [[right]] = library.classify([data], ["cat", "dog"], templates="five", top=1)
    assert answer["data"][0]["predictions"] == [
        {"label": right.label, "score": pytest.approx(right.probability, rel=1e-6)}
    ]


def test_labels_are_embedded_once(client: httpx.Client) -> None:
    def batches() -> float:
        lines = client.get("/metrics").text.splitlines()
        [line] = [x for x in lines if x.startswith('bareclip_inference_seconds_count{tower="text"')]
        return float(line.rsplit(" ", 1)[1])

    request = {"input": [{"image": uri(png(1))}], "labels": ["fish", "bird"], "templates": "five"}
    client.post("/v1/classify", json=request).raise_for_status()
    before = batches()
    for _ in range(3):
        client.post("/v1/classify", json=request).raise_for_status()
    assert batches() == before
    client.post("/v1/classify", json={**request, "labels": ["bird", "fish"]}).raise_for_status()
    assert batches() == before + 1


def test_similarity_and_rerank(client: httpx.Client, library: bareclip.Clip) -> None:
    files, texts = [png(7), png(8)], ["a cat", "a dog", "red"]
    images, words = library.embed_images(files), library.embed_texts(texts)
    request = {"left": [{"image": uri(data)} for data in files], "right": texts}
    answer = client.post("/v1/similarity", json=request).json()
    assert np.allclose(answer["similarities"], library.similarity(images, words), atol=1e-6)
    assert np.allclose(answer["probabilities"], library.probabilities(images, words), rtol=1e-5)
    documents = [*texts, *request["left"]]
    request = {"query": "a cat", "documents": documents, "top_n": 3, "return_documents": True}
    found = client.post("/v1/rerank", json=request).json()["results"]
    scores = library.similarity(words[:1], np.concatenate([words, images]))[0]
    right = np.argsort(-scores, kind="stable")[:3]
    assert [one["index"] for one in found] == right.tolist()
    assert [one["relevance_score"] for one in found] == pytest.approx(scores[right], abs=1e-6)
    assert found[0]["document"] == {"text": "a cat"}


def test_one_bad_picture_is_named_or_skipped(client: httpx.Client, library: bareclip.Clip) -> None:
    good = png(1)
    request = {"input": [{"image": uri(good)}, {"image": uri(good[:-60] + b"?" * 9)}, "a cat"]}
    answer = client.post("/v1/embeddings", json=request)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[1]"
    found = client.post("/v1/embeddings", json={**request, "on_error": "skip"}).json()["data"]
    assert found[1]["embedding"] is None
    assert found[1]["error"]["code"] == "invalid_image"
    rows = [found[0]["embedding"], found[2]["embedding"]]
    right = [library.embed_images([good])[0], library.embed_texts(["a cat"])[0]]
    assert np.array_equal(np.array(rows, np.float32), right)


@pytest.mark.parametrize(
    ("path", "request_", "status", "said"),
    [
        ("embeddings", {"input": ["a"] * 2049}, 413, "2048"),
        ("embeddings", {"input": [{"image": "AAAA"}] * 65}, 413, "64"),
        ("embeddings", {"input": "a" * 8193}, 413, "8192"),
        ("embeddings", {"input": "a " * 100, "truncate": False}, 400, "tokens"),
        ("embeddings", {"input": "a", "truncate": "yes"}, 400, "truncate"),
        ("embeddings", {"input": "a", "encoding_format": "int8"}, 400, "encoding_format"),
        ("embeddings", {"input": "a", "normalized": False}, 400, "length 1"),
        ("embeddings", {"input": "a", "on_error": "ignore"}, 400, "on_error"),
        ("embeddings", {"input": [{"image": "https://example.org/a.png"}]}, 400, "not fetched"),
        ("embeddings", ["a"], 400, "object"),
        ("classify", {"input": ["a"]}, 400, "labels"),
        ("classify", {"input": ["a"], "labels": "cat"}, 400, "labels"),
        ("classify", {"input": ["a"], "labels": ["cat", " "]}, 400, "labels[1]"),
        ("classify", {"input": ["a"], "labels": ["cat", "dog", "cat"]}, 400, "labels[2]"),
        ("classify", {"input": ["a"], "labels": ["cat"], "templates": "none"}, 400, "templates"),
        ("classify", {"input": ["a"], "labels": ["cat"], "templates": 5}, 400, "templates"),
        ("classify", {"input": ["a"], "labels": ["cat"], "ensemble": "x"}, 400, "ensemble"),
        ("classify", {"input": ["a"], "labels": ["cat"], "top": 0}, 400, "top"),
        ("classify", {"input": [], "labels": ["cat"]}, 400, "input"),
        (
            "classify",
            {"input": ["a"], "labels": [f"{n}" for n in range(251)], "templates": "imagenet"},
            413,
            "20000",
        ),
        ("similarity", {"left": ["a"]}, 400, "right"),
        ("rerank", {"query": "a", "documents": []}, 400, "documents"),
        ("rerank", {"documents": ["a"]}, 400, "query"),
        ("rerank", {"query": "a", "documents": ["a"], "top_n": 0}, 400, "top_n"),
        ("search", {"text": "a"}, 404, "--db"),
        ("embed", {"input": "a"}, 404, "/docs"),
    ],
)
def test_what_is_refused_says_what_would_be_right(
    client: httpx.Client, path: str, request_: Any, status: int, said: str
) -> None:
    answer = client.post("/v1/" + path, json=request_)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]


def test_other_bodies_and_methods(client: httpx.Client) -> None:
    def status(**request: Any) -> int:
        return client.post("/v1/embeddings", **request).status_code

    assert status(content=b"{", headers={"Content-Type": "application/json"}) == 400
    assert status(content=b"a=b", headers={"Content-Type": "text/plain"}) == 415
    assert status(content=b"", headers={"Content-Type": "image/png"}) == 400
    assert status(content=b"x" * (33 << 20), headers={"Content-Type": "image/png"}) == 413
    # Of no stated length.
    chunks = (b"x" * (1 << 20) for _ in range(33))
    assert status(content=chunks, headers={"Content-Type": "image/png"}) == 413
    assert client.get("/v1/embeddings").status_code == 405
    assert status(json={"input": "a"}, headers={"X-Deadline-Seconds": "-1"}) == 400
    assert status(json={"input": "a"}, headers={"X-Deadline-Seconds": "0.0000001"}) == 504
    assert status(json={"input": "a"}, headers={"X-Deadline-Seconds": "20"}) == 200


def test_documents_need_no_other_server(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    for path, methods in described["paths"].items():
        for method in methods:
            answer = client.request(method, path)
            assert answer.status_code not in (404, 405), path
    for page in ("/docs", "/"):
        text = client.get(page).text
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text
    assert all(path in client.get("/docs").text for path in described["paths"])

"""Each integration in its own library's hands, held to what ``Clip`` answers."""

import asyncio
import doctest
import inspect
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.cli.demo import PICTURES

TEXTS = ["a cat", "a dog", "a house by the sea"]


@pytest.fixture(scope="module")
def clip() -> bareclip.Clip:
    return bareclip.load()


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    shutil.copytree(PICTURES, tmp_path / "photos")
    return [tmp_path / "photos" / f"{animal}.png" for animal in ("cat", "dog")]


def examples(module: Any, names: dict[str, Any]) -> None:
    """Runs the examples of a module's classes; there is at least one."""
    tried = 0
    for name, thing in inspect.getmembers(module, inspect.isclass):
        text = inspect.getdoc(thing) or ""
        if ">>>" in text and thing.__module__ == module.__name__:
            test = doctest.DocTestParser().get_doctest(text, {**vars(module), **names}, name, "", 0)
            said: list[str] = []
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            assert runner.run(test, out=said.append).failed == 0, "".join(said)
            tried += 1
    assert tried


def test_langchain(clip: bareclip.Clip, photos: list[Path]) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.vectorstores import InMemoryVectorStore

    from bareclip.integrations import langchain

    examples(langchain, {"bareclip": bareclip, "InMemoryVectorStore": InMemoryVectorStore})
    embeddings = langchain.BareclipEmbeddings(clip)
    assert np.array_equal(np.float32(embeddings.embed_documents(TEXTS)), clip.embed_texts(TEXTS))
    assert np.array_equal(
        np.float32(embeddings.embed_image([str(photo) for photo in photos])),
        clip.embed_images(photos),
    )
    assert embeddings.embed_documents([]) == []
    store = InMemoryVectorStore(embeddings)
    store.add_texts(TEXTS)
    assert asyncio.run(store.asimilarity_search("a kitten", k=1))[0].page_content == "a cat"


def test_llama_index(clip: bareclip.Clip, photos: list[Path]) -> None:
    pytest.importorskip("llama_index.core")
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    from bareclip.integrations import llama_index

    names = {"bareclip": bareclip, "VectorStoreIndex": VectorStoreIndex, "TextNode": TextNode}
    examples(llama_index, names)
    embedding = llama_index.BareclipEmbedding(clip, embed_batch_size=2)
    texts, images = clip.embed_texts(TEXTS), clip.embed_images(photos)
    found = embedding.get_text_embedding_batch(TEXTS)
    assert np.array_equal(np.float32(found), texts)
    assert np.array_equal(np.float32(embedding.get_query_embedding(TEXTS[2])), texts[2])
    paths = [str(photo) for photo in photos]
    assert np.array_equal(np.float32(embedding.get_image_embedding_batch(paths)), images)
    assert np.array_equal(np.float32(embedding.get_image_embedding(paths[1])), images[1])

    async def asked() -> Any:
        return (
            await embedding.aget_text_embedding_batch(TEXTS),
            await embedding.aget_query_embedding(TEXTS[0]),
            await embedding.aget_image_embedding_batch(paths),
        )

    some, one, pictures = asyncio.run(asked())
    assert np.array_equal(np.float32(some), texts)
    assert np.array_equal(np.float32(one), texts[0])
    assert np.array_equal(np.float32(pictures), images)


def test_haystack(clip: bareclip.Clip, photos: list[Path]) -> None:
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    pytest.importorskip("haystack")
    from haystack import Document, Pipeline
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    from bareclip.integrations import haystack

    examples(haystack, {"photos": photos})
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    documents = [Document(meta={"file_path": str(photo)}) for photo in photos]
    found = haystack.BareclipImageEmbedder().run(documents=documents)["documents"]
    assert np.array_equal(np.float32([d.embedding for d in found]), clip.embed_images(photos))
    assert all(document.embedding is None for document in documents)
    store.write_documents(found)
    pipeline = Pipeline()
    pipeline.add_component("text", haystack.BareclipTextEmbedder())
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("text.embedding", "retriever.query_embedding")
    [best] = pipeline.run({"text": {"text": "a dog"}})["retriever"]["documents"]
    assert best.meta["file_path"] == str(photos[1])
    written = haystack.BareclipTextEmbedder(precision="fp32").to_dict()
    assert written["init_parameters"] == {"bundle": None, "precision": "fp32", "device": "auto"}
    allowed = ["bareclip.integrations.haystack"]
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=allowed)
    assert len(again.run({"text": {"text": "a dog"}})["retriever"]) == 1
    with pytest.raises(bareclip.BareclipError, match="has no text; for pictures"):
        haystack.BareclipDocumentEmbedder().run(documents=documents)
    with pytest.raises(bareclip.ImageError, match="names no picture"):
        haystack.BareclipImageEmbedder().run(documents=[Document(content="a cat")])


def test_lancedb(clip: bareclip.Clip, photos: list[Path], tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    from bareclip.integrations import lancedb as ours

    names = {
        "lancedb": lancedb,
        "get_registry": get_registry,
        "LanceModel": LanceModel,
        "Vector": Vector,
        "photos": photos,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        examples(ours, names)
        table = lancedb.connect("photos.lance").open_table("photos")  # embeds by what it wrote down
        stored = np.float32(table.to_arrow()["vector"].to_pylist())
        assert np.array_equal(stored, clip.embed_images(photos))
        [best] = table.search(photos[1].read_bytes()).limit(1).to_list()
        assert best["path"] == str(photos[1])

    words = get_registry().get("bareclip").create(kind="text")

    class Text(LanceModel):  # type: ignore[misc, valid-type]
        text: str = words.SourceField()
        vector: Vector(words.ndims()) = words.VectorField()  # type: ignore[valid-type]

    table = lancedb.connect(str(tmp_path / "texts.lance")).create_table("texts", schema=Text)
    table.add([{"text": text} for text in TEXTS])
    stored = np.float32(table.to_arrow()["vector"].to_pylist())
    assert np.array_equal(stored, clip.embed_texts(TEXTS))


def test_scikit_learn(clip: bareclip.Clip, photos: list[Path], tmp_path: Path) -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from bareclip.integrations import sklearn as ours

    names = {
        "photos": photos,
        "make_pipeline": make_pipeline,
        "LogisticRegression": LogisticRegression,
    }
    examples(ours, names)
    images = sklearn.base.clone(ours.ImageVectors(precision="fp32"))
    assert images.get_params() == {"bundle": None, "precision": "fp32", "device": "auto"}
    again = pickle.loads(pickle.dumps(images.fit(photos)))
    assert np.array_equal(again.transform(photos), clip.embed_images(photos))
    assert len(again.get_feature_names_out()) == 128
    copy = shutil.copytree(clip.bundle.folder, tmp_path / "copy")
    images.set_params(bundle=str(copy)).fit(photos)
    assert images.clip.bundle.folder == copy


def test_llm(clip: bareclip.Clip, photos: list[Path], tmp_path: Path) -> None:
    llm = pytest.importorskip("llm")
    from bareclip.integrations import llm as ours

    examples(ours, {"llm": llm})
    mixed = [TEXTS[0], photos[0].read_bytes(), TEXTS[1]]
    found = np.float32(list(llm.get_embedding_model("bareclip").embed_multi(mixed)))
    assert np.array_equal(found[[0, 2]], clip.embed_texts(TEXTS[:2]))
    assert np.array_equal(found[1], clip.embed_images(photos[:1])[0])
    command = [sys.executable, "-m", "llm", "embed", "-m", "bareclip", "--binary", "-i"]
    said = subprocess.run([*command, photos[0]], capture_output=True, text=True, check=True)
    assert np.allclose(json.loads(said.stdout), clip.embed_images(photos[:1])[0])


def test_label_studio(clip: bareclip.Clip, photos: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("label_studio_sdk")
    from label_studio_sdk.label_interface import LabelInterface

    from bareclip.integrations import label_studio

    def interface(*labels: str, sets: int = 1) -> str:
        choices = "".join(f'<Choice value="{label}"/>' for label in labels)
        several = "".join(
            f'<Choices name="kind{i}" toName="photo">{choices}</Choices>' for i in range(sets)
        )
        return f'<View><Image name="photo" value="$image"/>{several}</View>'

    config = interface("cat", "dog", "house")
    examples(label_studio, {"bareclip": bareclip, "config": config, "photos": photos})
    pictures = {f"/data/local-files/?d={photo.name}": photo for photo in photos}
    tasks = json.loads(json.dumps([*label_studio.PreAnnotator(clip, config).tasks(pictures)]))
    wanted = clip.classify(photos, ["cat", "dog", "house"], top=1)
    for task, address, [best] in zip(tasks, pictures, wanted, strict=True):
        assert task["data"] == {"image": address}
        [prediction] = task["predictions"]
        assert prediction["score"] == pytest.approx(best.probability)
        [region] = prediction["result"]
        assert region["value"] == {"choices": [best.label]}
        assert LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
        # It is the validator that would have said so.
        assert LabelInterface(interface("bird")).validate_prediction(prediction, return_errors=True)
    classifier = clip.classifier(["cat", "dog"])
    again = [*label_studio.PreAnnotator(classifier, config).tasks(pictures)]
    assert [task["data"] for task in again] == [task["data"] for task in tasks]
    with pytest.raises(bareclip.BareclipError, match="labels dog are no choices .* has cat, bird"):
        label_studio.PreAnnotator(classifier, interface("cat", "bird"))
    for sets in (0, 2):
        with pytest.raises(bareclip.BareclipError, match=f"has {sets} sets of choices; give one"):
            label_studio.PreAnnotator(clip, interface("cat", sets=sets))


PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n(?:\n.*)*?\n```python\n([\s\S]*?)```", PAGE, re.M))
LIBRARIES = {
    "LangChain": "langchain_core",
    "LlamaIndex": "llama_index.core",
    "Haystack": "haystack",
    "LanceDB": "lancedb",
    "scikit-learn": "sklearn",
    "Label Studio": "label_studio_sdk",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    pytest.importorskip(LIBRARIES[name])
    for animal in ("cat", "dog"):
        shutil.copy(PICTURES / f"{animal}.png", tmp_path / f"{animal}.jpg")
    monkeypatch.chdir(tmp_path)
    exec(SECTIONS[name], {"__name__": "__main__"})

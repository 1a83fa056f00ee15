"""Every form in which clients send texts and pictures, and those that are refused."""

import base64
from typing import Any

import pytest

from bareclip.serve.inputs import Address, Picture, Text, embedding_items, item
from bareclip.serve.problems import Problem

BYTES = bytes(range(256)) * 3 + b"x"
PLAIN = base64.b64encode(BYTES).decode()
URI = "data:image/png;base64," + PLAIN


@pytest.mark.parametrize(
    "body",
    [
        {"input": [URI], "modality": "image"},
        {"input": PLAIN, "modality": "image"},
        {"input": URI},
        {"input": [{"image": PLAIN}]},
        {"input": {"image": URI}},
        {"input": [{"image": {"url": URI}}]},
        {"input": [{"image": {"bytes": PLAIN}}]},
        {"inputs": [{"content": [{"type": "image_base64", "image_base64": URI}]}]},
        {"inputs": [{"content": [{"type": "image_url", "image_url": URI}]}]},
        {"inputs": [{"content": [{"type": "image_url", "image_url": {"url": URI}}]}]},
        {"input": [{"type": "image_url", "image_url": {"url": URI}}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": URI}}]}
            ]
        },
        {"images": [URI]},
        {"input": [{"image": PLAIN.rstrip("=")}]},
        {"input": [{"image": PLAIN.replace("+", "-").replace("/", "_")}]},
        {"input": [{"image": "\n".join(PLAIN[i : i + 76] for i in range(0, len(PLAIN), 76))}]},
    ],
)
def test_forms_of_a_picture(body: dict[str, Any]) -> None:
    assert embedding_items(body) == [Picture(BYTES)]


@pytest.mark.parametrize(
    "body",
    [
        {"input": "a cat"},
        {"input": ["a cat"], "modality": "text"},
        {"input": [{"text": "a cat"}]},
        {"texts": ["a cat"]},
        {"inputs": [{"content": [{"type": "text", "text": "a cat"}]}]},
        {"inputs": [{"content": ["a cat"]}]},
        {"messages": [{"role": "user", "content": "a cat"}]},
    ],
)
def test_forms_of_a_text(body: dict[str, Any]) -> None:
    assert embedding_items(body) == [Text("a cat")]


def test_kinds_may_be_mixed_and_keep_their_order() -> None:
    mixed = ["a", {"image": PLAIN}, {"text": "b"}, {"image": "https://example.org/c.png"}]
    found = embedding_items({"input": mixed})
    assert found == [Text("a"), Picture(BYTES), Text("b"), Address("https://example.org/c.png")]
    both = embedding_items({"texts": ["a"], "images": [URI]})
    assert both == [Text("a"), Picture(BYTES)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": None},
        {"input": 5},
        {"input": [1, 2, 3]},
        {"input": [[1, 2], [3]]},
        {"input": "a", "inputs": ["b"]},
        {"input": ["a"], "modality": "audio"},
        {"input": [{}]},
        {"input": [{"text": "a", "image": PLAIN}]},
        {"input": [{"text": 7}]},
        {"input": [{"image": {"url": URI, "bytes": PLAIN}}]},
        {"input": [{"type": "video", "text": "a"}]},
        {"inputs": [{"content": []}]},
        {"inputs": [{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
        {"messages": []},
        {"messages": [{"content": "a"}, {"content": "b"}]},
        {"messages": ["a"]},
        {"input": [{"image": "data:image/png,abc"}]},
        {"input": [{"image": "data:image/png;base64"}]},
        # What is a path elsewhere is no picture here, whatever it names.
        {"input": [{"image": "/etc/pass.wd"}]},
        {"input": [{"image": "file:///etc/passwd"}]},
        {"input": [{"image": "../../secret.png"}]},
        {"input": [{"image": "C:\\photos\\cat.jpg"}]},
        {"input": [{"image": "cat.jpg"}]},
        {"input": [{"image": ""}]},
        {"input": [{"image": "ünï"}]},
    ],
)
def test_what_is_in_no_form_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        embedding_items(body)
    assert caught.value.status == 400
    assert PLAIN[:20] not in caught.value.message
    assert "passwd" not in caught.value.message


def test_base64_that_looks_like_a_path_is_bytes() -> None:
    assert item({"image": "/etc/passwd+"}, "input") == Picture(base64.b64decode("/etc/passwd+"))

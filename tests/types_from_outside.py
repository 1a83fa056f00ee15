"""What a type checker makes of the installed package: ``pyright tests/types_from_outside.py``."""

# pyright: strict
from pathlib import Path
from typing import assert_type

import bareclip

clip = bareclip.load("clip-b32", precision={"vision": "int8"})
vectors = clip.embed_images(["cat.jpg", Path("dog.jpg"), b"..."])
assert_type(vectors, bareclip.Vectors)
assert_type(clip.embed_images(["cat.jpg"], on_error="skip"), bareclip.PartialEmbeddings)
assert_type(clip.classify("cat.jpg", ["cat"]), list[list[bareclip.Prediction]])
assert_type(clip.search(vectors, ["cat", "dog"], text="a cat"), list[bareclip.Hit[str]])
with bareclip.Index.open("photos.db", clip) as index:
    assert_type(index.search("a cat"), list[bareclip.IndexHit])
for found in clip.images.stream(["cat.jpg"]):
    if isinstance(found, bareclip.Failure):
        assert_type(found, bareclip.Failure)
clip.classify("cat.jpg", ["cat"], tops=1)  # pyright: ignore[reportCallIssue]

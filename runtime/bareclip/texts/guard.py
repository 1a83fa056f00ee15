"""tokenizer.json from anywhere: bounded in what it makes of a text, and no panic of its library."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tokenizers

from ..errors import BundleError

# The largest that are known, of 256,000 tokens with their merges written out, are 34 MB.
_LARGEST = 256 << 20
# What steps are tried on, one by one, before a text goes through all of them; and how many times
# its length, and how many steps, no model's come near.
_PROBE = "".join(map(chr, range(32, 0x180))) + " A photo of the cats, 京都 가 ヴ \N{CAT FACE} \tΣ\n"
_MOST_GROWTH, _MOST_STEPS, _LONGEST = 20, 64, 256


@contextmanager
def guarded() -> Iterator[None]:
    """Turns a panic of ``tokenizers`` within the block into a RuntimeError.

    pyo3 raises it past ``except Exception``, under a name that cannot be imported
    (pyo3, src/panic.rs).
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise RuntimeError(f"tokenizers failed: {error}") from None
        raise


def open_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """Reads a tokenizer.json.

    Raises:
        BundleError: It is not one, is newer than the installed tokenizers, or would make a
            text many times longer than it is.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise BundleError(f"{path} has {size} bytes; no tokenizer is larger than {_LARGEST}")
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
        with guarded():
            # Before it is made: the names of its tokens go through its steps then.
            if reason := _unbounded(data):
                raise BundleError(f"{path} is refused: {reason}")
            return tokenizers.Tokenizer.from_str(text)
    except BundleError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        reason = " ".join(str(error).split())
        raise BundleError(
            f"cannot read tokenizer {path}: {reason[:200]}; export or download it again"
        ) from error


def _unbounded(data: Any) -> str | None:
    """Why a tokenizer's steps may make much of a little text; None where they do not.

    A few dozen steps that each double a text end the process for want of memory.
    """
    text = _PROBE
    steps = [
        (name, step) for name in ("normalizer", "pre_tokenizer") for step in _steps(data.get(name))
    ]
    if len(steps) > _MOST_STEPS:
        return f"it changes a text in {len(steps)} steps, more than {_MOST_STEPS}"
    for name, step in steps:
        words = [step.get(key) for key in ("content", "prepend", "replacement")]
        if any(isinstance(word, str) and len(word) > _LONGEST for word in words):
            return f"a step of it puts in more than {_LONGEST} letters at once"
        one = tokenizers.Tokenizer.from_str(json.dumps(_EMPTY | {name: step}))
        if name == "normalizer":
            text = one.normalizer.normalize_str(text)
        else:
            text = "".join(part for part, _ in one.pre_tokenizer.pre_tokenize_str(text))
        if len(text) > _MOST_GROWTH * len(_PROBE):
            return f"its steps make a text more than {_MOST_GROWTH} times longer"
    return None


_EMPTY = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}


def _steps(whole: Any) -> list[dict[str, Any]]:
    """What a sequence of steps, which may hold others, does one after another."""
    found: list[dict[str, Any]] = []
    left = [whole] if whole is not None else []
    while left:
        step = left.pop()
        if step.get("type") == "Sequence":
            left += reversed(step.get("normalizers") or step.get("pretokenizers") or [])
        else:
            found.append(step)
    return found

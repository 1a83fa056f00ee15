"""The file of a classifier: an .npz of numbers, and of JSON that says what they are.

    about      uint8: the JSON of an object with ``format`` (1), ``labels`` (L strings),
               ``scoring`` (``function``, ``logit_scale``, ``logit_bias``), ``made_by`` (the model's
               fingerprint), ``lookup`` (``weight`` and ``sharpness``, or null) and ``taught`` (the
               fields of a ``TeachingReport``, or null)
    vectors    (T, L, D) float32: W of ``scoring/heads.py``, for each of T templates
    examples   (K, D) float32, of a cache model
    places     (K,) int64, of a cache model

Read strictly: what is unknown, missing or of another type or shape is refused by name.
"""

import io
import json
import math
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Scoring
from ..encoders.fingerprint import Fingerprint
from ..errors import short
from ..files.npz import read_npz, write_npz
from ..scoring.heads import Head, Lookup
from ..scoring.zero_shot import LabelMatrix
from ..types import TeachingReport

FORMAT_VERSION = 1
_ABOUT = {"format", "labels", "scoring", "made_by", "lookup", "taught"}
# exp() of more is no scale of logits.
_LARGEST_SCALE = 20.0
_LARGEST = 1e9
_METHODS = ("linear", "cache", "zero-shot")


def dump(head: Head, made_by: Fingerprint, taught: TeachingReport | None) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: A label is not text that UTF-8 can hold.
    """
    scoring, lookup = head.scoring, head.lookup
    about = {
        "format": FORMAT_VERSION,
        "labels": [_checked_label(label) for label in head.matrix.labels],
        "scoring": {
            "function": scoring.function,
            "logit_scale": scoring.logit_scale,
            "logit_bias": scoring.logit_bias,
        },
        "made_by": asdict(made_by),
        "lookup": lookup and {"weight": lookup.weight, "sharpness": lookup.sharpness},
        "taught": taught and asdict(taught),
    }
    arrays: dict[str, NDArray[Any]] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "vectors": head.matrix.vectors,
    }
    if lookup is not None:
        arrays |= {"examples": lookup.examples, "places": lookup.places}
    file = io.BytesIO()
    write_npz(file, arrays)
    return file.getvalue()


def parse(data: bytes) -> tuple[Head, Fingerprint, TeachingReport | None]:
    """What ``dump`` was given.

    Raises:
        ValueError: It is none, or damaged; says what is wrong in one line.
    """
    arrays = read_npz(io.BytesIO(data))
    if "about" not in arrays:
        raise ValueError("it does not say what is in it")
    about = _object(_json(arrays["about"].tobytes()), "it", _ABOUT)
    if about["format"] != FORMAT_VERSION:
        raise ValueError(f"its format is {short(about['format'])}; this bareclip reads 1")
    names = _names(Fingerprint)
    made_by = Fingerprint.parse(json.dumps(_object(about["made_by"], "made_by", names)))
    labels, lookup = about["labels"], about["lookup"]
    if not isinstance(labels, list) or not labels:
        raise ValueError(f"labels are {short(labels)}, not a list of them")
    checked = tuple(_checked_label(label) for label in labels)
    _object(arrays, "it", {"about", "vectors", *(("examples", "places") if lookup else ())})
    vectors = _floats(arrays, "vectors", (None, len(checked), made_by.width))
    matrix = LabelMatrix(checked, vectors)
    head = Head(matrix, _scoring(about["scoring"]), _lookup(lookup, arrays, vectors))
    return head, made_by, _taught(about["taught"])


def _scoring(given: Any) -> Scoring:
    found = _object(given, "scoring", _names(Scoring))
    if found["function"] not in ("softmax", "sigmoid"):
        raise ValueError(f"function is {short(found['function'])}, neither softmax nor sigmoid")
    scale = _number(found, "logit_scale", -_LARGEST_SCALE, _LARGEST_SCALE)
    return Scoring(found["function"], scale, _number(found, "logit_bias", -_LARGEST, _LARGEST))


def _lookup(given: Any, arrays: dict[str, NDArray[Any]], vectors: NDArray[Any]) -> Lookup | None:
    if given is None:
        return None
    found = _object(given, "lookup", {"weight", "sharpness"})
    _, labels, width = vectors.shape
    examples, places = _floats(arrays, "examples", (None, width)), arrays["places"]
    if places.dtype != np.int64 or places.shape != examples.shape[:1]:
        raise ValueError(f"places are {places.dtype} {places.shape}, not one for each example")
    if ((places < 0) | (places >= labels)).any():
        raise ValueError(f"places are not all of the {labels} labels")
    weight, sharpness = (_number(found, name, 0, _LARGEST) for name in ("weight", "sharpness"))
    return Lookup(examples, places, weight, sharpness)


def _taught(given: Any) -> TeachingReport | None:
    if given is None:
        return None
    found = _object(given, "taught", _names(TeachingReport))
    if found["method"] not in _METHODS:
        raise ValueError(f"method is {short(found['method'])}, not one of {', '.join(_METHODS)}")
    if type(found["examples"]) is not int or found["examples"] < 0:
        raise ValueError(f"examples are {short(found['examples'])}, not a number of them")
    shares = {
        name: _number(found, name, 0, 1) for name in found if name not in ("method", "examples")
    }
    return TeachingReport(method=found["method"], examples=found["examples"], **shares)


def _floats(
    arrays: dict[str, NDArray[Any]], name: str, shape: tuple[int | None, ...]
) -> NDArray[np.float32]:
    found = arrays[name]
    fits = found.ndim == len(shape) and all(
        length > 0 and wanted in (None, length)
        for length, wanted in zip(found.shape, shape, strict=True)
    )
    if found.dtype != np.float32 or not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} are {found.dtype} {found.shape}, not float32 ({wanted})")
    if not np.isfinite(found).all() or np.abs(found).max() > _LARGEST:
        raise ValueError(f"{name} are not finite")
    return found


def _number(given: dict[str, Any], name: str, least: float, most: float) -> float:
    value = given[name]
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{name} is {short(value)}, not from {least:g} to {most:g}")
    return float(value)


def _object(given: Any, what: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{what} is {short(given)}, not an object")
    for name in sorted(given.keys() - names):
        raise ValueError(f"{what} has {short(name)}, which is unknown; update bareclip")
    for name in sorted(names - given.keys()):
        raise ValueError(f"{what} has no {name}")
    return given


def _checked_label(label: Any) -> str:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label {short(label)} is not a non-empty string")
    try:
        label.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"label {short(label)} is not text that UTF-8 can hold") from error
    return label


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("its description is nested too deep") from error


def _names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}

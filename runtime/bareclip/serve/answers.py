"""Answers' bodies."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from ..types import Vectors
from .problems import Problem


def json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, arrays of NumPy included."""
    data = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(data, status, headers, "application/json")


def problem(found: Problem) -> Response:
    """The answer that an error is."""
    headers = {}
    if found.retry_after is not None:
        headers["Retry-After"] = str(found.retry_after)
    return json(found.body(), found.status, headers)


def embedding(index: int, row: Vectors | Problem, as_base64: bool) -> dict[str, Any]:
    """One vector as OpenAI's clients read it, or why there is none."""
    found: dict[str, Any] = {"object": "embedding", "index": index}
    if isinstance(row, Problem):
        return {**found, "embedding": None, **row.body()}
    # Little-endian everywhere, whatever this machine is.
    data = np.ascontiguousarray(row, dtype="<f4")
    found["embedding"] = base64.b64encode(data.tobytes()).decode() if as_base64 else data
    return found


def usage(tokens: int) -> dict[str, int]:
    """Tokens of texts; pictures have none."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}

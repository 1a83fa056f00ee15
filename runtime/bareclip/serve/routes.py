"""The endpoints."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from ..scoring.heads import Head
from ..scoring.vectors import normalize
from ..scoring.zero_shot import Ensemble, probabilities, ranked
from . import answers
from .inputs import Item, Picture, Text, embedding_items, item, items
from .problems import Problem, invalid, too_large
from .search import filters_of
from .service import Service

_PICTURES = "image/"
# What JSON takes: as it came, as a string, and decoded.
_JSON_COPIES = 3


async def embeddings(service: Service, request: Request) -> Response:
    """``POST /v1/embeddings``."""
    body, picture = await read(service, request)
    service.check_model(body.get("model"))
    width = service.clip.bundle.embedding_dim
    dimensions = body.get("dimensions", body.get("output_dimension"))
    if dimensions is not None and dimensions != width:
        raise invalid(f"this model's vectors have {width} dimensions and no others", "dimensions")
    as_base64 = _one_of(
        body, "encoding_format", ("float", "base64"), body.get("embedding_type") or "float"
    )
    if body.get("normalized", True) is not True:
        raise invalid("vectors have length 1 here; leave normalized out", "normalized")
    skip = _one_of(body, "on_error", ("raise", "skip"), "raise") == "skip"
    truncate = body.get("truncate", True)
    if not isinstance(truncate, bool):
        raise invalid("truncate is true or false", "truncate")
    asked = [picture] if picture else embedding_items(dict(body))
    found = await service.embed(request, asked, truncate=truncate)
    if not skip:
        found.vectors()
    return answers.json(
        {
            "object": "list",
            "model": service.clip.bundle.name,
            "data": [
                answers.embedding(index, row, as_base64 == "base64")
                for index, row in enumerate(found.rows)
            ],
            "usage": answers.usage(found.tokens),
        }
    )


async def classify(service: Service, request: Request) -> Response:
    """``POST /v1/classify``."""
    body, picture = await read(service, request)
    service.check_model(body.get("model"))
    labels = _labels(body.get("labels"))
    templates = body.get("templates", "plain")
    is_list = isinstance(templates, list) and all(isinstance(one, str) for one in templates)
    if not isinstance(templates, str) and not is_list:
        raise invalid("templates is a name, a sentence with {}, or a list of them", "templates")
    ensemble = _one_of(body, "ensemble", get_args(Ensemble), "embedding")
    top = body.get("top")
    if top is not None and (type(top) is not int or top < 1):
        raise invalid("top is a number of labels, at least 1", "top")
    asked = [picture] if picture else items(body.get("input"), "input")
    # Labels first: a request whose labels are refused has no pictures decoded for it.
    matrix = await service.label_matrix(request, labels, templates, ensemble)
    found = await service.embed(request, asked)
    scores = Head(matrix, service.clip.bundle.scoring).probabilities(found.vectors())
    data = []
    for index, row in enumerate(scores):
        best = ranked(matrix.labels, row, top)
        data.append(
            {
                "object": "classification",
                "index": index,
                "prediction": best[0].label,
                "score": best[0].probability,
                "predictions": [{"label": one.label, "score": one.probability} for one in best],
            }
        )
    return answers.json(
        {
            "object": "list", "model": service.clip.bundle.name, "data": data,
            "usage": answers.usage(found.tokens),
        }
    )  # fmt: skip


async def similarity(service: Service, request: Request) -> Response:
    """``POST /v1/similarity``."""
    body, _ = await read(service, request, raw=False)
    service.check_model(body.get("model"))
    left, right = items(body.get("left"), "left"), items(body.get("right"), "right")
    where = [f"left[{place}]" for place in range(len(left))]
    where += [f"right[{place}]" for place in range(len(right))]
    found = await service.embed(request, [*left, *right], where=where)
    vectors = found.vectors()
    rows, columns = vectors[: len(left)], vectors[len(left) :]
    pictures_and_texts = not any(isinstance(one, Text) for one in left) and all(
        isinstance(one, Text) for one in right
    )
    return answers.json(
        {
            "object": "similarity",
            "model": service.clip.bundle.name,
            "similarities": np.clip(rows @ columns.T, -1, 1),
            # What texts mean to pictures; the model says nothing of other pairs.
            "probabilities": probabilities(rows, columns, service.clip.bundle.scoring)
            if pictures_and_texts
            else None,
            "usage": answers.usage(found.tokens),
        }
    )


async def rerank(service: Service, request: Request) -> Response:
    """``POST /v1/rerank``."""
    body, _ = await read(service, request, raw=False)
    service.check_model(body.get("model"))
    query, documents = item(body.get("query"), "query"), items(body.get("documents"), "documents")
    top = body.get("top_n", len(documents))
    if type(top) is not int or top < 1:
        raise invalid("top_n is a number of documents, at least 1", "top_n")
    where = ["query", *(f"documents[{place}]" for place in range(len(documents)))]
    found = await service.embed(request, [query, *documents], where=where)
    vectors = found.vectors()
    scores = np.clip(vectors[1:] @ vectors[0], -1, 1)
    results = []
    for index in np.argsort(-scores, kind="stable")[:top].tolist():
        result: dict[str, Any] = {"index": index, "relevance_score": scores[index]}
        if body.get("return_documents") is True:
            result["document"] = _given(body["documents"][index])
        results.append(result)
    return answers.json(
        {
            "object": "list", "model": service.clip.bundle.name, "results": results,
            "usage": answers.usage(found.tokens),
        }
    )  # fmt: skip


async def search(service: Service, request: Request) -> Response:
    """``POST /v1/search``."""
    photos = _photos(service)
    body, picture = await read(service, request)
    service.check_model(body.get("model"))
    k, least = body.get("k", 10), body.get("min_similarity")
    if type(k) is not int or not 1 <= k <= 1000:
        raise invalid("k is a number of photos, from 1 to 1000", "k")
    # Neither NaN, nor a number of a thousand digits.
    if least is not None and not (type(least) in (int, float) and -2 <= least <= 2):
        raise invalid("min_similarity is a number, a cosine", "min_similarity")
    filters = filters_of(body)
    asked: list[Item] = [picture] if picture else []
    where = ["image"] if picture else []
    for name in ("text", "image"):
        if body.get(name) is not None:
            asked.append(item({name: body[name]}, name))
            where.append(name)
    if not asked:
        raise invalid("give text, image, or both", "text")
    if not photos.takes_pictures and not all(isinstance(one, Text) for one in asked):
        raise invalid("the index was made at another precision or reading: ask it by text", "image")
    found = await service.embed(request, asked, where=where)
    vector = normalize(found.vectors().mean(axis=0)).astype(np.float32)
    hits = await asyncio.to_thread(photos.search, vector, k, least, filters)
    return answers.json(
        {
            "object": "list", "model": service.clip.bundle.name, "results": hits,
            "usage": answers.usage(found.tokens),
        }
    )  # fmt: skip


async def thumbnail(service: Service, request: Request) -> Response:
    """``GET /v1/thumbnails/ID``."""
    data = await asyncio.to_thread(_photos(service).thumbnail, request.path_params["sealed"])
    return Response(
        data, headers={"Cache-Control": "private, max-age=3600"}, media_type="image/jpeg"
    )


async def models(service: Service, request: Request) -> Response:
    """``GET /v1/models``."""
    clip = service.clip
    bundle, photos = clip.bundle, service.photos
    model = {
        "id": bundle.name,
        "object": "model",
        "created": service.opened,
        "owned_by": "bareclip",
        "checkpoint": bundle.source.checkpoint,
        "dimensions": bundle.embedding_dim,
        "precision": clip.precision,
        "device": clip.device,
        "modalities": [{"vision": "image", "text": "text"}[tower] for tower in clip.precision],
        "searchable": await asyncio.to_thread(photos.count) if photos else 0,
        "search_by_picture": photos is not None and photos.takes_pictures,
    }
    return answers.json({"object": "list", "data": [model]})


async def live(service: Service, request: Request) -> Response:
    """``GET /live``: the process answers."""
    return answers.json({"status": "live"})


async def ready(service: Service, request: Request) -> Response:
    """``GET /ready``: whether requests should be sent here."""
    state = service.state
    return answers.json({"status": state}, 200 if state == "ready" else 503)


async def metrics(service: Service, request: Request) -> Response:
    """``GET /metrics``."""
    return Response(service.metrics.text(), media_type=service.metrics.content_type)


async def read(
    service: Service, request: Request, *, raw: bool = True
) -> tuple[Mapping[str, Any], Picture | None]:
    """A request's body: an object, or with ``raw`` a picture with its options in the address.

    Raises:
        Problem: It is neither, or is too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and (kind.startswith(_PICTURES) or kind == "application/octet-stream"):
        # Before a body is read that will be thrown away.
        service.engine.refuse_when_full(1, 0)
        data = await read_bytes(service, request, copies=1)
        if not data:
            raise invalid("the body is empty; send a picture's bytes")
        return _options(request), Picture(data)
    if kind != "application/json":
        either = ", or a picture's bytes as image/jpeg and the like" if raw else ""
        raise Problem(
            415, f"send JSON with Content-Type: application/json{either}", code="content_type"
        )
    _ = service.engine  # 503 before a body is read for nothing
    data = await read_bytes(service, request, copies=_JSON_COPIES)
    parse = asyncio.to_thread(_parsed, data) if len(data) > 1 << 18 else None
    body = await parse if parse is not None else _parsed(data)
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    return body, None


async def read_bytes(service: Service, request: Request, *, copies: int) -> bytes:
    """The body, within the limits; ``copies`` says what it will take altogether.

    Raises:
        Problem: 413, 429, or 408 for one that comes too slowly.
    """
    limits = service.settings.limits
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.body:
        raise _over(limits.body)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.body:
                    raise _over(limits.body)
                service.reserve(copies * len(chunk))
                # Given back when the request ends, however it does.
                request.state.reserved = getattr(request.state, "reserved", 0) + copies * len(chunk)
                chunks.append(chunk)
    except TimeoutError:
        raise Problem(408, "the body came too slowly", code="timeout") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _over(most: int) -> Problem:
    return too_large(f"a request of more than {most >> 20} MiB is refused; send less at once")


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        raise invalid("the body is no valid JSON") from None


def _options(request: Request) -> dict[str, Any]:
    """What the address says, for a body that is a picture."""
    query = request.query_params
    options: dict[str, Any] = dict(query)
    if "labels" in options:
        options["labels"] = [one.strip() for one in query["labels"].split(",") if one.strip()]
    for name in ("top", "k", "dimensions"):
        if name in options and options[name].isdigit():
            options[name] = int(options[name])
    # What is no number is refused by who wants one.
    with contextlib.suppress(KeyError, ValueError):
        options["min_similarity"] = float(options["min_similarity"])
    for name in ("image", "truncate", "normalized"):
        options.pop(name, None)
    return options


def _labels(given: Any) -> list[str]:
    if not isinstance(given, list) or not given:
        raise invalid('labels must be a list of strings, such as ["cat", "dog"]', "labels")
    places: dict[str, int] = {}
    for place, label in enumerate(given):
        if not isinstance(label, str) or not label.strip() or len(label) > 1000:
            raise invalid(f"labels[{place}] must be a string of 1 to 1000 characters", "labels")
        if places.setdefault(label, place) != place:
            raise invalid(f"labels[{place}] is the same as labels[{places[label]}]", "labels")
    return list(given)


def _one_of(body: Mapping[str, Any], name: str, known: tuple[str, ...], missing: str) -> Any:
    value = body.get(name)
    value = missing if value is None else value
    if value not in known:
        raise invalid(f"{name} is one of {', '.join(known)}", name)
    return value


def _given(document: Any) -> dict[str, Any]:
    return {"text": document} if isinstance(document, str) else document


def _photos(service: Service) -> Any:
    if service.photos is None:
        _ = service.engine  # loading is another answer
        raise Problem(404, "no index is served here; see --db", code="not_found")
    return service.photos

"""The description of the endpoints in OpenAPI 3.1."""

from typing import Any

from .. import __version__
from ..index.filters import FILTERS
from .settings import Settings

_JSON = "application/json"
_ITEM: dict[str, Any] = {
    "description": "A text, or a picture in base64, as a data URI or in content parts.",
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        {"type": "object", "properties": {"image": {"type": "string"}}, "required": ["image"]},
        {"type": "object", "properties": {"content": {"type": "array"}}, "required": ["content"]},
    ],
}
_ITEMS = {"type": "array", "items": {"$ref": "#/components/schemas/Item"}}
_MODEL = {"type": "string", "description": "The model's name; may be left out."}
_USAGE = {"$ref": "#/components/schemas/Usage"}


def _said(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {**schema, "description": description}


_STRING, _INTEGER, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
_STRINGS = {"type": "array", "items": _STRING}
_MATRIX = {"type": "array", "items": {"type": "array", "items": _NUMBER}}


def _list(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "object": _STRING, "model": _STRING, "usage": _USAGE,
            name: {"type": "array", "items": {"type": "object", "properties": properties}},
        },
    }  # fmt: skip


def _post(
    summary: str,
    fields: dict[str, Any],
    required: list[str],
    answer: dict[str, Any],
    sample: str,
    *,
    raw: bool = False,
) -> dict[str, Any]:
    content: dict[str, Any] = {
        _JSON: {"schema": {"type": "object", "properties": fields, "required": required}}
    }
    if raw:
        content["image/*"] = {"schema": {"type": "string", "format": "binary"}}
    failed = {"$ref": "#/components/responses/Problem"}
    errors = ("400", "401", "403", "404", "408", "413", "415", "429", "500", "503", "504")
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content},
            "responses": {
                "200": {"description": "The answer.", "content": {_JSON: {"schema": answer}}},
                **dict.fromkeys(errors, failed),
            },
            "x-codeSamples": [{"lang": "Shell", "source": sample}],
        }
    }


def _get(summary: str, kind: str = _JSON, **more: Any) -> dict[str, Any]:
    answer = {"description": "The answer.", "content": {kind: {}}}
    return {"get": {"summary": summary, "responses": {"200": answer}, **more}}


def _curl(path: str, body: str) -> str:
    return f"curl localhost:8000{path} -H 'Content-Type: application/json' \\\n  -d '{body}'"


def document(settings: Settings) -> dict[str, Any]:
    """The description, of what this service answers."""
    paths: dict[str, Any] = {
        "/v1/embeddings": _post(
            "Vectors of texts and pictures, as OpenAI's clients ask for them. The bytes of one "
            "picture may also be the body.",
            {
                "input": _said({"anyOf": [_STRING, _ITEMS]}, "A text, or a list."),
                "model": _MODEL,
                "encoding_format": _said(
                    {"enum": ["float", "base64"]}, "base64 is of little-endian float32."
                ),
                "modality": _said(
                    {"enum": ["text", "image"]}, "What plain strings in input are."
                ),
                "dimensions": _said(_INTEGER, "The model's own, or left out."),
                "truncate": _said(
                    {"type": "boolean"}, "Cut texts that are too long; an error if false."
                ),
                "on_error": _said(
                    {"enum": ["raise", "skip"]},
                    "skip gives an item that cannot be read an error, and the others vectors.",
                ),
            },
            ["input"],
            _list(
                "data",
                {
                    "object": _STRING, "index": _INTEGER,
                    "embedding": {"type": ["array", "string", "null"]},
                },
            ),
            _curl("/v1/embeddings", '{"input": ["a cat", {"image": "data:image/jpeg;base64,..."}]}')
            + "\ncurl localhost:8000/v1/embeddings -H 'Content-Type: image/jpeg' \\\n"
            "  --data-binary @cat.jpg",
            raw=True,
        ),
        "/v1/classify": _post(
            "Which label fits, and how surely. The bytes of one picture may also be the body, with "
            "labels, templates, ensemble and top in the address.",
            {
                "input": _said(_ITEMS, "Pictures, or texts."),
                "labels": _said(_STRINGS, "Such as cat, dog."),
                "templates": _said(
                    {"anyOf": [_STRING, _STRINGS]},
                    "plain, five, imagenet, or sentences in which {} is the label.",
                ),
                "ensemble": _said(
                    {"enum": ["embedding", "probability"]},
                    "Average a label's vectors over the templates, or its probabilities.",
                ),
                "top": _said(_INTEGER, "Only so many labels."),
                "model": _MODEL,
            },
            ["input", "labels"],
            _list(
                "data",
                {
                    "object": _STRING, "index": _INTEGER, "prediction": _STRING, "score": _NUMBER,
                    "predictions": {"type": "array"},
                },
            ),
            "curl 'localhost:8000/v1/classify?labels=cat,dog' -H 'Content-Type: image/jpeg' \\\n"
            "  --data-binary @cat.jpg",
            raw=True,
        ),
        "/v1/similarity": _post(
            "The cosine of everything on the left with everything on the right; and how probable "
            "each text is for each picture, where pictures are left and texts right.",
            {
                "left": _said(_ITEMS, "Texts and pictures."),
                "right": _said(_ITEMS, "Texts and pictures."),
                "model": _MODEL,
            },
            ["left", "right"],
            {
                "type": "object",
                "properties": {"similarities": _MATRIX, "probabilities": _MATRIX, "usage": _USAGE},
            },
            _curl("/v1/similarity", '{"left": ["a cat"], "right": ["a kitten", "a car"]}'),
        ),
        "/v1/rerank": _post(
            "Documents, texts or pictures, by their similarity to a query.",
            {
                "query": {"$ref": "#/components/schemas/Item"},
                "documents": _said(_ITEMS, "Texts and pictures."),
                "top_n": _said(_INTEGER, "Only so many."),
                "return_documents": _said({"type": "boolean"}, "Whether they come back too."),
                "model": _MODEL,
            },
            ["query", "documents"],
            _list("results", {"index": _INTEGER, "relevance_score": _NUMBER}),
            _curl("/v1/rerank", '{"query": "a cat", "documents": ["a kitten", "a car"]}'),
        ),
        "/v1/models": _get("The model that answers."),
        "/live": _get("Whether the process answers.", security=[]),
        "/ready": _get("Whether requests should be sent here; 503 if not.", security=[]),
        "/metrics": _get("Counts and times for Prometheus.", "text/plain"),
    }  # fmt: skip
    if settings.database is not None:
        paths["/v1/search"] = _post(
            "Photos of the index that are nearest to a text, a picture, or both, of those that "
            "pass the filters. The bytes of one picture may also be the body, with the rest in the "
            "address.",
            {
                "text": _said(_STRING, "What is looked for."),
                "image": _said(_STRING, "A picture like those that are looked for."),
                "k": _said(_INTEGER, "How many, 10 if left out."),
                "min_similarity": _said(_NUMBER, "Only those at least so similar."),
                **{name: _said(_STRING, text) for name, text in FILTERS.items()},
                "model": _MODEL,
            },
            [],
            _list(
                "results",
                {
                    "item": _STRING, "name": _STRING, "similarity": _NUMBER,
                    "thumbnail": {"type": ["string", "null"]}, "metadata": {},
                },
            ),
            _curl("/v1/search", '{"text": "a sunset over the ocean", "k": 5}'),
            raw=True,
        )  # fmt: skip
        paths["/v1/thumbnails/{sealed}"] = _get(
            "A small JPEG of a photo that a search found.", "image/jpeg",
            parameters=[{"name": "sealed", "in": "path", "required": True, "schema": _STRING}],
        )  # fmt: skip
    if settings.immich is not None:
        paths["/ping"] = _get("immich's own /live.", "text/plain")
        paths["/predict"] = {
            "post": {
                "summary": "A vector, in immich's protocol.",
                "requestBody": {"content": {"multipart/form-data": {}}},
                "responses": {"200": {"description": "The answer.", "content": {_JSON: {}}}},
            }
        }
    error = {"message": _STRING, "type": _STRING, "param": {"type": ["string", "null"]}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bareclip",
            "version": __version__,
            "description": "A CLIP model: vectors of texts and pictures, and what is made of them.",
        },
        "paths": paths,
        "security": [{"key": []}] if settings.keys else [],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "What was wrong; with 429, Retry-After says when to try again.",
                    "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "schemas": {
                "Item": _ITEM,
                "Usage": {
                    "type": "object",
                    "properties": {"prompt_tokens": _INTEGER, "total_tokens": _INTEGER},
                },
                "Problem": {
                    "type": "object",
                    "properties": {
                        "error": {"type": "object", "properties": {**error, "code": _STRING}}
                    },
                },
            },
        },
    }

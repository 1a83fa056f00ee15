"""The protocol in which an immich server asks its machine-learning service.

It marks a service that answers with an error as unhealthy, so that requests wait here where others
are refused. Its own service reads pictures as they are stored, so that is how they are read.
"""

import io
from typing import Any

import orjson
from PIL import Image
from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from . import answers
from .inputs import Item, Picture, Text
from .problems import Problem, invalid, too_large
from .service import Service


async def ping(service: Service, request: Request) -> Response:
    """``GET /ping``."""
    return PlainTextResponse("pong")


async def predict(service: Service, request: Request) -> Response:
    """``POST /predict``: the vector of one picture or one text."""
    most = service.settings.limits.body
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > most:
        raise too_large(f"send a length of at most {most >> 20} MiB")
    service.reserve(int(length))
    request.state.reserved = int(length)
    try:
        async with request.form(max_files=1, max_fields=4, max_part_size=1 << 20) as form:
            entries, text, file = form.get("entries"), form.get("text"), form.get("image")
            data = await file.read() if isinstance(file, UploadFile) else None
    except (HTTPException, MultipartParseError):
        raise invalid("the body is no valid form") from None
    kind = _kind(entries, service.settings.immich)
    if kind == "visual" and data:
        asked: Item = Picture(data)
    elif kind == "textual" and isinstance(text, str):
        asked = Text(text)
    else:
        raise invalid("clip's visual wants a file named image, its textual a field named text")
    found = await service.embed(request, [asked], admit=False, reading="as_stored")
    # A string that holds JSON, as its server expects it.
    answer: dict[str, object] = {
        "clip": orjson.dumps(found.vectors()[0], option=orjson.OPT_SERIALIZE_NUMPY).decode()
    }
    if data and kind == "visual":
        with Image.open(io.BytesIO(data), formats=service.settings.formats) as image:
            answer |= {"imageHeight": image.height, "imageWidth": image.width}
    return answers.json(answer)


def _kind(entries: object, name: str | None) -> str:
    """``"visual"`` or ``"textual"``.

    Raises:
        Problem: Another task, or another model.
    """
    try:
        asked: Any = orjson.loads(entries) if isinstance(entries, str) else None
        [(task, kinds)] = asked.items()
        [(kind, options)] = kinds.items()
        model = options["modelName"]
    except (ValueError, AttributeError, TypeError, KeyError):
        raise invalid(
            'entries must be {"clip": {"visual" or "textual": {"modelName": ...}}}'
        ) from (None)
    if task != "clip" or kind not in ("visual", "textual"):
        raise Problem(
            400, "this service does clip's visual and textual alone: give immich another address "
            "for faces and text recognition", code="unsupported",
        )  # fmt: skip
    if model != name:
        raise Problem(404, f"this service has the model {name}", code="model_not_found")
    return str(kind)

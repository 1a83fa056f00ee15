"""The application: routes, what stands before them, and what becomes of errors."""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from . import answers, immich, pages, routes
from .problems import Problem, busy
from .security import Gate
from .service import Service

_log = logging.getLogger("bareclip.serve")

Handler = Callable[[Service, Request], Awaitable[Response]]

_SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_NOTHING = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# A client that has gone reads no answer; counts want a status, and this is nginx's.
_GONE = 499


def create_app(service: Service) -> Any:
    """The ASGI application of a service."""
    posts: dict[str, Handler] = {
        "/v1/embeddings": routes.embeddings,
        "/v1/classify": routes.classify,
        "/v1/similarity": routes.similarity,
        "/v1/rerank": routes.rerank,
        "/v1/search": routes.search,
    }
    gets: dict[str, Handler] = {
        "/": pages.page,
        "/docs": pages.docs,
        "/openapi.json": pages.openapi,
        "/v1/models": routes.models,
        "/v1/thumbnails/{sealed}": routes.thumbnail,
        "/live": routes.live,
        "/ready": routes.ready,
        "/metrics": routes.metrics,
    }
    if service.settings.immich is not None:
        posts["/predict"] = immich.predict
        gets["/ping"] = immich.ping
    table = [(path, handler, "POST") for path, handler in posts.items()]
    table += [(path, handler, "GET") for path, handler in gets.items()]
    found = [
        Route(path, _endpoint(service, path, handler), methods=[method])
        for path, handler, method in table
    ]
    return Front(service, Starlette(routes=found, exception_handlers={HTTPException: _unknown}))


class Front:
    """Sees every request first and last: who may ask, times, counts."""

    def __init__(self, service: Service, inner: Any) -> None:
        self._service, self._inner = service, inner
        self._gate = Gate(service.settings.keys, service.settings.names)
        self._open = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            return
        began, status = time.perf_counter(), _GONE

        async def sent(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                headers.extend(_SAFE)
                if not any(name == b"content-security-policy" for name, _ in headers):
                    headers.append(_NOTHING)
                if self._service.draining:
                    # Clients then open no request on a connection that is about to end.
                    headers.append((b"connection", b"close"))
            await send(message)

        self._open += 1
        try:
            answer = self._refusal(scope)
            await (answer or self._inner)(scope, receive, sent)
        finally:
            self._open -= 1
            # Not the path: clients can make up any number of them.
            route = scope.get("bareclip.route", "other")
            seconds = time.perf_counter() - began
            self._service.metrics.request.labels(route, str(status)).observe(seconds)
            _log.info("%s %s %.1f ms", route, status, 1000 * seconds)

    def _refusal(self, scope: Any) -> Response | None:
        try:
            self._gate.check(scope)
            if self._open > self._service.settings.limits.connections:
                raise busy(1, "too many requests are open")
        except Problem as problem:
            self._service.metrics.rejected.labels(problem.code).inc()
            found = answers.problem(problem)
            if problem.status == 401:
                wants_page = b"text/html" in dict(scope["headers"]).get(b"accept", b"")
                # A browser then asks for the key, as the password.
                scheme = "Basic" if wants_page else "Bearer"
                found.headers["WWW-Authenticate"] = f'{scheme} realm="bareclip"'
            return found
        return None


def _endpoint(
    service: Service, path: str, handler: Handler
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request.scope["bareclip.route"] = path
        try:
            return await handler(service, request)
        except Problem as problem:
            if problem.status in (413, 429, 503, 504):
                service.metrics.rejected.labels(problem.code).inc()
            return answers.problem(problem)
        except ClientDisconnect:
            # Raised on, it would be answered, and counted, as an internal error.
            return Response(status_code=_GONE)
        except Exception as error:
            # Its text may hold anything, so it goes nowhere.
            _log.error("internal error: %s", type(error).__name__)
            _log.debug("internal error", exc_info=error)
            return answers.problem(Problem(500, "an internal error", code="internal"))
        finally:
            service.reserve(-getattr(request.state, "reserved", 0))

    return endpoint


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        found = Problem(405, "that is not asked in this way; see /docs", code="method")
    else:
        found = Problem(404, "there is nothing at this address; see /docs", code="not_found")
    return answers.problem(found)

"""The page at ``/``, and what documents the endpoints; none of it asks any other server."""

import base64
import hashlib
import html
import re
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from . import answers
from .openapi import document
from .service import Service


async def page(service: Service, request: Request) -> Response:
    """``GET /``."""
    text, policy = _page()
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})


async def openapi(service: Service, request: Request) -> Response:
    """``GET /openapi.json``."""
    return answers.json(document(service.settings))


async def docs(service: Service, request: Request) -> Response:
    """``GET /docs``."""
    text = _documentation(document(service.settings))
    return Response(
        text, media_type="text/html", headers={"Content-Security-Policy": _policy(text)}
    )


@cache
def _page() -> tuple[str, str]:
    text = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return text, _policy(text)


def _policy(text: str) -> str:
    """A policy that runs this very script, and nothing that got into the page otherwise."""
    allowed = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
            for part in re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {allowed['script'] or _NONE}; "
        f"style-src {allowed['style']}; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


_NONE = "'none'"
_DOCS_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fafaf8; --line: #d8d8d2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececee; --paper: #161618; --line: #3a3a3e; } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h2 { font-size: 1.1rem; border-top: 1px solid var(--line); padding-top: 1rem; }
pre { overflow-x: auto; border: 1px solid var(--line); padding: .75rem; border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .5rem .25rem 0; }
"""


def _documentation(described: dict[str, Any]) -> str:
    parts = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation))
    info = described["info"]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(info['title'])}</title><link rel='icon' href='data:,'>"
        f"<style>{_DOCS_STYLE}</style></head><body>"
        f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info['description'])} "
        '<a href="/openapi.json">openapi.json</a></p>' + "".join(parts) + "</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    found = [f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"]
    found.append(f"<p>{html.escape(operation['summary'])}</p>")
    content = operation.get("requestBody", {}).get("content", {})
    body = content.get("application/json", {})
    fields = body.get("schema", {}).get("properties", {})
    if fields:
        rows = "".join(
            f"<tr><th scope='row'><code>{html.escape(name)}</code></th>"
            f"<td>{html.escape(field.get('description', ''))}</td></tr>"
            for name, field in fields.items()
        )
        found.append(f"<table>{rows}</table>")
    found += [
        f"<pre><code>{html.escape(sample['source'])}</code></pre>"
        for sample in operation.get("x-codeSamples", [])
    ]
    return "".join(found)

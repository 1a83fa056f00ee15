"""bareclip serve: the model behind HTTP."""

import dataclasses
import importlib.util
import ipaddress
import logging
import os
import socket
import sys
import warnings
from pathlib import Path

import click

from .. import BareclipError, Clip
from ..files import read_lines
from .options import ModelOptions, bundle_option, with_model
from .output import complain

_KEYS = "BARECLIP_API_KEYS"


@click.command()
@bundle_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--db", type=click.Path(path_type=Path), help="A photo index that `bareclip index` made."
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help=f"A text file with a key per line, one of which clients must send; or {_KEYS} holds them.",
)
@click.option(
    "--without-key", is_flag=True, help="Listen beyond this machine although no key is wanted."
)
@click.option(
    "--allow-host", "names", multiple=True, help="A name that clients call this server by."
)
@click.option(
    "--allow-url-host", "url_hosts", multiple=True, help="A host that pictures are fetched from."
)
@click.option(
    "--allow-format", "formats", multiple=True, help="Pillow's name of a further picture format."
)
@click.option("--immich", help="Speak immich's protocol too, as the model of that name.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option(
    "--max-wait",
    default=1.5,
    show_default=True,
    type=click.FloatRange(min=0.01),
    help="Seconds of predicted waiting from which on requests are refused.",
)
@click.option(
    "--deadline",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0.1),
    help="Seconds after which a request is given up.",
)
@click.option(
    "--drain",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds in which SIGTERM still lets connections in.",
)
@click.option("--log", is_flag=True, help="Write a line per request to stderr.")
@click.option("--socket", "descriptor", type=int, hidden=True)
@with_model
def serve(
    model: ModelOptions,
    host: str,
    port: int,
    db: Path | None,
    api_key_file: Path | None,
    without_key: bool,
    names: tuple[str, ...],
    url_hosts: tuple[str, ...],
    formats: tuple[str, ...],
    immich: str | None,
    workers: int,
    max_wait: float,
    deadline: float,
    drain: float,
    log: bool,
    descriptor: int | None,
) -> None:
    """Answers over HTTP: embeddings as OpenAI's, classification, search, and a page at /.

    \b
    bareclip serve --bundle clip-b32 --precision int8
    bareclip serve --bundle clip-b32 --db photos.db --api-key-file keys.txt --host 0.0.0.0
    """
    for needed in ("uvicorn", "starlette", "orjson", "prometheus_client", "python_multipart"):
        if importlib.util.find_spec(needed) is None:
            raise BareclipError(
                f"serve needs {needed}, which is not installed: pip install 'bareclip[serve]'"
            )
    from ..serve.server import bind, supervise
    from ..serve.server import serve as answer
    from ..serve.service import Service
    from ..serve.settings import FORMATS, Limits, Settings

    keys = _keys(api_key_file)
    if not keys and not without_key and not _is_loopback(host):
        raise BareclipError(
            f"{host} can be reached from other machines, and no key is wanted: give "
            "--api-key-file, set BARECLIP_API_KEYS, or --without-key if that is meant"
        )
    if workers > 1 and os.name == "nt":
        raise BareclipError(
            "--workers wants a system whose processes share a socket, which Windows is not; start "
            "several services, each with a --port of its own"
        )
    if db is not None and not db.exists():
        raise BareclipError(
            f"there is no index {db}; make it with: bareclip index FOLDER --db {db}"
        )
    settings = Settings(
        keys=keys,
        names=names,
        url_hosts=url_hosts,
        formats=(*FORMATS, *(name.upper() for name in formats)),
        database=db,
        immich=immich,
        drain=drain,
        limits=Limits(wait=max_wait, deadline=max(deadline, max_wait)),
    )
    secret = os.environ.pop("BARECLIP_SERVE_SECRET", "")
    if secret:
        settings = dataclasses.replace(settings, secret=bytes.fromhex(secret))
    _quiet(log)
    listening = socket.socket(fileno=descriptor) if descriptor is not None else bind(host, port)
    if descriptor is None:
        name = f"[{host}]" if ":" in host else host
        place = f"http://{name}:{listening.getsockname()[1]}"
        complain(f"listening on {place}")
    if workers > 1 and descriptor is None:
        command = [sys.executable, "-m", "bareclip", *sys.argv[1:]]
        supervise(command, workers, listening, settings.secret)
        return

    def load() -> Clip:
        clip = model.load()
        clip.preload()
        return clip

    def started(service: Service) -> None:
        clip = service.clip
        precision = ", ".join(f"{tower} {name}" for tower, name in clip.precision.items())
        complain(
            f"ready, {clip.bundle.name} ({precision}) on {clip.device}, {clip.threads} threads"
        )

    answer(Service(settings), load, listening, started, one_of_several=descriptor is not None)


def _quiet(log: bool) -> None:
    """Lets nothing be written that a picture's decoder says: it may hold paths, or anything."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("bareclip: %(message)s"))
    logger = logging.getLogger("bareclip.serve")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if log else logging.WARNING)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _keys(path: Path | None) -> tuple[str, ...]:
    keys = read_lines(path) if path is not None else []
    keys += os.environ.get(_KEYS, "").split()
    if path is not None and not keys:
        raise BareclipError(f"{path} holds no key; write one a line")
    return tuple(keys)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

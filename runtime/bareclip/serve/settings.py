"""What may be set, and the limits that a service has unless told otherwise."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

MEBI = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where requests and their parts are refused.

    Attributes:
        body: Bytes of one request.
        bodies: Bytes of all requests at once, those of JSON counted three times: as they came,
            as a string, and decoded.
        pictures: In a request.
        texts: In a request.
        characters: In a text.
        prompts: Labels times templates.
        pixels: Of a picture.
        exact_pixels: A JPEG of more is decoded at a fraction of its size.
        connections: Requests at once.
        label_bytes: Of label matrices that are kept.
        wait: Seconds of predicted waiting from which on requests are refused.
        deadline: Seconds after which a request is given up.
        body_seconds: For a body to come in.
    """

    body: int = 32 * MEBI
    bodies: int = 128 * MEBI
    pictures: int = 64
    texts: int = 2048
    characters: int = 8192
    prompts: int = 20_000
    pixels: int = 50_000_000
    exact_pixels: int = 16_000_000
    connections: int = 4096
    label_bytes: int = 64 * MEBI
    wait: float = 1.5
    deadline: float = 30.0
    body_seconds: float = 30.0


# Formats that browsers and phones make. Pillow reads forty more, each a decoder to attack.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one service runs.

    Attributes:
        keys: One of them is wanted from clients; none are where this is empty.
        names: Host names it may be called by, besides addresses and ``localhost``.
        url_hosts: Hosts that pictures may be fetched from.
        formats: Pillow's names of picture formats that are read.
        database: A photo index to search.
        immich: The model name that an immich server asks for; None speaks no such protocol.
        secret: What ids of thumbnails are sealed with, the same for all workers.
        drain: Seconds in which connections are still taken after SIGTERM.
        stuck: Seconds after which a batch that has not ended counts as never ending.
    """

    keys: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    url_hosts: tuple[str, ...] = ()
    formats: tuple[str, ...] = FORMATS
    database: Path | None = None
    immich: str | None = None
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    drain: float = 1.0
    stuck: float = 30.0
    limits: Limits = field(default_factory=Limits)

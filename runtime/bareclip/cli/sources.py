"""Images named on the command line: files, folders, and http(s) addresses."""

import io
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..errors import ImageError

MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024
DOWNLOAD_SECONDS = 30


class Download(io.BytesIO):
    """The file at an address, fetched when it is first read, in the thread that reads it."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.name = address
        self._fetched = False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._fetch()
        return super().seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        self._fetch()
        return super().read(size)

    def _fetch(self) -> None:
        if not self._fetched:
            self._fetched = True
            self.write(download(self.name))
            super().seek(0)


@dataclass(frozen=True)
class Source:
    """An image of the command line: what its user calls it, and what can be embedded."""

    name: str
    image: Path | Download


def expand(arguments: Iterable[str]) -> list[Source]:
    """Each file and address as itself, each folder as the images under it, sorted.

    Raises:
        ImageError: A folder without images.
    """
    sources: list[Source] = []
    for argument in arguments:
        if argument.lower().startswith(("http://", "https://")):
            sources.append(Source(argument, Download(argument)))
        elif Path(argument).is_dir():
            found = sorted(_images_under(Path(argument)))
            if not found:
                raise ImageError(f"folder {argument} holds no image files")
            sources += [Source(str(path), path) for path in found]
        else:
            sources.append(Source(argument, Path(argument)))
    return sources


def with_progress(sources: list[Source]) -> Iterator[Path | Download]:
    """The images, and a progress bar on stderr where that is a terminal."""
    for source in tqdm(sources, unit="image", disable=None, leave=False):
        yield source.image


def _images_under(folder: Path) -> Iterator[Path]:
    endings = Image.registered_extensions()
    for place, _, names in os.walk(folder):
        for name in names:
            if Path(name).suffix.lower() in endings:
                yield Path(place, name)


def download(address: str) -> bytes:
    """Fetches a picture, within a limit of time and of size.

    Raises:
        ImageError: It cannot be had, or is beyond a limit.
    """
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    parts: list[bytes] = []
    size = 0
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "bareclip"})
        with _web_only().open(request, timeout=DOWNLOAD_SECONDS) as response:
            while part := response.read1(1 << 16):
                parts.append(part)
                size += len(part)
                if size > MAX_DOWNLOAD_BYTES:
                    raise ImageError(f"{address} is larger than {MAX_DOWNLOAD_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise ImageError(f"{address} took longer than {DOWNLOAD_SECONDS} seconds")
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the response, with its connection
        reason = getattr(error, "reason", None) or error
        raise ImageError(f"cannot download {address}: {reason}") from error
    return b"".join(parts)


def _web_only() -> urllib.request.OpenerDirector:
    """An opener that a redirect cannot lead to a local file or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener

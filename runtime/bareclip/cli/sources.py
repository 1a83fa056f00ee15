"""Images named on the command line: files, folders, and http(s) addresses."""

import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import ImageError
from ..images.inputs import Fetched, image_files

MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024
DOWNLOAD_SECONDS = 30


@dataclass(frozen=True)
class Source:
    """An image of the command line: what its user calls it, and what can be embedded."""

    name: str
    image: Path | Fetched


def expand(arguments: Iterable[str]) -> list[Source]:
    """Each file and address as itself, each folder as the images under it, sorted.

    Raises:
        ImageError: A folder without images.
    """
    sources: list[Source] = []
    for argument in arguments:
        if argument.lower().startswith(("http://", "https://")):
            sources.append(Source(argument, Fetched(argument, partial(download, argument))))
        elif Path(argument).is_dir():
            found = image_files(Path(argument))
            if not found:
                raise ImageError(f"folder {argument} holds no image files")
            sources += [Source(str(path), path) for path in found]
        else:
            sources.append(Source(argument, Path(argument)))
    return sources


def download(address: str) -> bytes:
    """Fetches a picture, within a limit of time, from connecting to the last byte, and of size.

    Raises:
        ImageError: It cannot be had, or is beyond a limit.
    """
    answer: queue.Queue[bytes | Exception] = queue.Queue()
    # In a thread that can be left behind: a server that sends a byte now and then resets
    # every timeout of a socket.
    threading.Thread(target=_download, args=(address, answer), daemon=True).start()
    try:
        found = answer.get(timeout=DOWNLOAD_SECONDS)
    except queue.Empty:
        raise ImageError(f"{address} took longer than {DOWNLOAD_SECONDS} seconds") from None
    if isinstance(found, bytes):
        return found
    reason = getattr(found, "reason", None) or found
    raise ImageError(f"cannot download {address}: {reason}") from found


def _download(address: str, answer: "queue.Queue[bytes | Exception]") -> None:
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "bareclip"})
        with _web_only().open(request, timeout=DOWNLOAD_SECONDS) as response:
            data: bytes = response.read(MAX_DOWNLOAD_BYTES + 1)
        if len(data) > MAX_DOWNLOAD_BYTES:
            raise ValueError(f"it is larger than {MAX_DOWNLOAD_BYTES:,} bytes")
        answer.put(data)
    except Exception as error:  # whatever it is, the waiting thread must hear of it
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the response, with its connection
        answer.put(error)


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

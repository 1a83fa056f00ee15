"""XMP sidecars: an index's tags as keywords beside the photos, for photo managers.

A sidecar is ``NAME.ENDING.xmp``, which darktable, digiKam and immich look for; it holds the
labels in ``dc:subject`` (XMP specification, part 1, section 7). Only a file that is byte for byte
what this module writes is ever replaced: what another program wrote, or added to, is left alone.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Literal

from ..files import printable, read_file, replacing

Outcome = Literal["written", "removed", "unchanged", "foreign", "gone"]

_LARGEST = 1 << 20
_ITEM = re.compile("<rdf:li>([^<]*)</rdf:li>")
_SIDECAR = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="bareclip">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
   <dc:subject>
    <rdf:Bag>
{items}
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def sidecar(labels: Sequence[str]) -> bytes:
    """The bytes of a sidecar; what no XML file may hold, control characters, is replaced."""
    lines = [f"     <rdf:li>{escape(_allowed(label))}</rdf:li>" for label in labels]
    return _SIDECAR.format(items="\n".join(lines)).encode()


def write_sidecar(photo: str, labels: Sequence[str]) -> Outcome:
    """Writes the sidecar of a photo, unless there is another program's.

    Args:
        photo: Its absolute path.
        labels: Without any, a sidecar that was written before is removed.

    Returns:
        What became of it; ``"gone"`` where there is no such photo.

    Raises:
        OSError: It cannot be written.
    """
    # Not Path.is_file(), which raises where a name is too long to be one.
    if not os.path.isabs(photo) or not os.path.isfile(photo):  # noqa: PTH113, PTH117
        return "gone"
    place, data = Path(f"{photo}.xmp"), sidecar(labels)
    there = os.path.lexists(place)
    if there:
        before = b""
        with contextlib.suppress(OSError, ValueError):
            before = b"" if place.is_symlink() else read_file(place, _LARGEST)
        if not _is_ours(before):
            return "foreign"
        if before == data:
            return "unchanged"
    if not labels:
        if there:
            place.unlink()
        return "removed" if there else "unchanged"
    with replacing(place) as file:
        file.write(data)
    return "written"


def _is_ours(data: bytes) -> bool:
    """Whether a file is what ``sidecar`` makes of the labels in it."""
    try:
        labels = [unescape(label) for label in _ITEM.findall(data.decode())]
    except UnicodeDecodeError:
        return False
    return sidecar(labels) == data


def _allowed(label: str) -> str:
    # U+FFFE and U+FFFF are the only others that XML 1.0 forbids.
    return printable(label).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")

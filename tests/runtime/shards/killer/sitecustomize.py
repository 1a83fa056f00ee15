"""Has a JPEG with a certain comment kill the process that opens it.

Python imports this before anything else where PYTHONPATH begins with its folder: in workers, and in
the children that they start, with not a line of the program changed.
"""

import io
import os
import signal
from pathlib import Path
from typing import Any

from PIL import ImageFile

MARK = b"this picture kills its decoder"

_real = ImageFile.ImageFile.__init__


def _killing(self: Any, fp: Any = None, filename: Any = None) -> None:
    if isinstance(fp, io.BytesIO) and MARK in fp.getbuffer()[:4096].tobytes():
        if counted := os.environ.get("KILLER_COUNTS"):  # a file that gets a byte per death
            with Path(counted).open("ab", buffering=0) as file:
                file.write(b".")
        os.kill(os.getpid(), signal.SIGKILL)
    _real(self, fp, filename)


ImageFile.ImageFile.__init__ = _killing  # type: ignore[method-assign]

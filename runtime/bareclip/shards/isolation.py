"""Decodes pictures in a child with limits, so that one that kills its process is found.

The child is ``main``. Where it dies with a picture, or takes too long or too much memory over it,
it is known which one that was.
"""

import contextlib
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..encoders import ImageEncoder
from ..errors import ShardError
from .decoding import decoded

# Seconds for one picture. The largest that are decoded at all take some.
TIMEOUT = 60.0
# Bytes of address space of the child; the largest pictures take 2 GB.
MEMORY = 6 * 1024**3
KILLED = "it killed its decoder"


class DecoderDiedError(Exception):
    """A picture killed the process that decoded it, or had to be stopped; says how."""


class Isolated:
    """A child that decodes one picture at a time; it is started again when it has died.

    Args:
        encoder: What the pictures are for.
        scaled: As for ``decoded``.
        timeout: Seconds for one picture.
        memory: Bytes of the child.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        scaled: bool,
        timeout: float = TIMEOUT,
        memory: int = MEMORY,
    ) -> None:
        self._how = (encoder.recipe, encoder.reading, scaled, encoder.max_pixels)
        self._timeout, self._memory = timeout, memory
        self._child: subprocess.Popen[bytes] | None = None
        self._alone = threading.Lock()

    def decode(self, data: bytes) -> tuple[NDArray[np.uint8] | None, str | None]:
        """As ``decoding.decoded``, in the child.

        Raises:
            DecoderDiedError: The child died of it, or was stopped.
        """
        with self._alone:
            child = self._child or self._start()
            late = threading.Timer(self._timeout, child.kill)
            late.start()
            try:
                _send(_pipe(child.stdin), data)
                answer = _receive(_pipe(child.stdout))
            except (OSError, EOFError) as error:
                raise self._died(child, timed_out=not late.is_alive()) from error
            finally:
                late.cancel()
            found: tuple[NDArray[np.uint8] | None, str | None] = pickle.loads(answer)
            return found

    def close(self) -> None:
        """Ends the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            _close(child)

    def _start(self) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(
            [sys.executable, "-c", "from bareclip.shards.isolation import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is its parent's, which ends it
        )
        try:
            _send(_pipe(self._child.stdin), pickle.dumps((*self._how, self._memory, self._timeout)))
            _receive(_pipe(self._child.stdout))
        except (OSError, EOFError) as error:
            died = self._died(self._child, timed_out=False)
            raise ShardError(f"a child to decode pictures in does not start: {died}") from error
        return self._child

    def _died(self, child: subprocess.Popen[bytes], timed_out: bool) -> DecoderDiedError:
        self._child = None
        child.kill()
        code = _close(child)
        if timed_out:
            return DecoderDiedError(f"{KILLED}: it took more than {self._timeout:g} s")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return DecoderDiedError(f"{KILLED} ({how})")


def _close(child: subprocess.Popen[bytes]) -> int:
    for pipe in (child.stdin, child.stdout):
        try:
            _pipe(pipe).close()
        except OSError:  # what was to be sent has nobody to read it
            continue
    return child.wait()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(struct.pack("<Q", len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    size = struct.unpack("<Q", head)[0]
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    most = memory if allowed == resource.RLIM_INFINITY else min(memory, allowed)
    # macOS counts what all processes share, hundreds of gigabytes, and refuses less.
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _set_alarm(seconds: float) -> None:
    """Has the system end this process, also where no Python runs."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """What the child does: answers until nobody asks."""
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints is no answer
    recipe, reading, scaled, max_pixels, memory, timeout = pickle.loads(_receive(asked))
    _limit(memory)
    _send(answers, b"")
    while True:
        try:
            data = _receive(asked)
        except EOFError:
            return
        _set_alarm(timeout + 5)  # for where the parent is gone
        _send(answers, pickle.dumps(decoded(data, recipe, reading, scaled, max_pixels)))
        _set_alarm(0)


if __name__ == "__main__":
    main()

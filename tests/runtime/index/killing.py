"""Indexes a folder in children, and kills each with SIGKILL after the time it is told.

Run by test_killed.py in a process of its own. A child is forked after the imports, which
take longer than indexing, and before ONNX Runtime has threads that a fork would lose.

    python -m tests.runtime.index.killing BUNDLE FOLDER DB      # then a number a line
"""

import os
import signal
import sys
import time

import onnxruntime  # noqa: F401

import bareclip


def run(bundle: str, folder: str, db: str) -> None:
    with bareclip.Index.open(db, bareclip.load(bundle, threads=2)) as index:
        index.sync(folder)


def main() -> None:
    for line in sys.stdin:
        delay = float(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(*sys.argv[1:])
                code = 0
            finally:
                os._exit(code)
        started = time.monotonic()
        if delay >= 0:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, time.monotonic() - started, flush=True)


if __name__ == "__main__":
    main()

"""Indexes a folder in children, and kills each with SIGKILL where it is told.

Run by test_killed.py in a process of its own. A child is forked after the imports, which
take longer than indexing, and before ONNX Runtime has threads that a fork would lose.

    python -m tests.runtime.index.killing BUNDLE FOLDER DB      # then two numbers a line

The first is how many reports of progress the child makes before it is killed: its own, not a
clock's, so that a busy machine changes nothing. The second is how long it lives on, in the time
that a step took: with no report, that which the child before took to its first. A negative
first number waits for the end.
"""

import os
import signal
import sys
import time

import onnxruntime  # noqa: F401

import bareclip


def run(bundle: str, folder: str, db: str, told: int) -> None:
    with bareclip.Index.open(db, bareclip.load(bundle, threads=2)) as index:
        index.sync(folder, report=lambda _: os.write(told, b".") and None)


def main() -> None:
    step = 0.0
    for line in sys.stdin:
        reports, share = line.split()
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(*sys.argv[1:], told)
                code = 0
            finally:
                os._exit(code)
        os.close(told)
        started, count = time.monotonic(), 0
        while count != int(reports) and os.read(heard, 1):
            count += 1
            step = (time.monotonic() - started) / count
        if count == int(reports):
            time.sleep(float(share) * step)
            os.kill(child, signal.SIGKILL)
        os.close(heard)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), count, flush=True)


if __name__ == "__main__":
    main()

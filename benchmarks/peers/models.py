"""Writes one checkpoint's weights in the form that each peer loads. Runs where torch is.

python benchmarks/peers/models.py CHECKPOINT FOLDER
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTokenizerFast


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
    context = model.config.text_config.max_position_embeddings
    pixels = torch.zeros(2, 3, size, size)
    ids = torch.full((2, context), model.config.text_config.eos_token_id)

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
        settings = {"model_max_length": context, "pad_token": end}
        (fastembed / "tokenizer_config.json").write_text(json.dumps(settings))
        (fastembed / "special_tokens_map.json").write_text(json.dumps({"pad_token": end}))

    write_open_clip(model, checkpoint, folder / "open_clip")
    link_modern_onnx_clip(checkpoint, folder, {"context_length": context, "image_size": size})

    optimum = folder / "optimum"
    if not (optimum / "model.onnx").exists():
        from optimum.exporters.onnx import main_export

        CLIPTokenizerFast.from_pretrained(checkpoint).save_pretrained(optimum)
        main_export(str(checkpoint), optimum, task="zero-shot-image-classification")


def link_modern_onnx_clip(checkpoint: Path, folder: Path, config: dict[str, int]) -> None:
    """The same traced graphs by the names that it reads."""
    place = folder / "modern-onnx-clip"
    place.mkdir(exist_ok=True)
    for name, target in (
        ("visual.onnx", folder / "fastembed" / "vision" / "model.onnx"),
        ("textual.onnx", folder / "fastembed" / "text" / "model.onnx"),
        ("tokenizer.json", checkpoint / "tokenizer.json"),
    ):
        if not (place / name).exists():
            (place / name).symlink_to(target.resolve())
    (place / "config.json").write_text(json.dumps(config))


def write_open_clip(model: CLIPModel, checkpoint: Path, folder: Path) -> None:
    """The same tensors by the names, and in the configuration, that open_clip reads."""
    folder.mkdir(parents=True, exist_ok=True)
    vision, text = model.config.vision_config, model.config.text_config
    config = {
        "embed_dim": model.config.projection_dim,
        "quick_gelu": vision.hidden_act == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "layers": text.num_hidden_layers,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
        },
    }
    processor = json.loads((checkpoint / "preprocessor_config.json").read_text())
    preprocess = {"mean": processor["image_mean"], "std": processor["image_std"]}
    about = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    save_file(open_clip_tensors(model), folder / "open_clip_model.safetensors")


def open_clip_tensors(model: CLIPModel) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    found = {
        "logit_scale": state["logit_scale"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T,
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
    }
    layers = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for kind in ("weight", "bias"):
        found[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        found[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        found[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
        for theirs, tower, count in (
            ("visual.transformer", "vision_model", model.config.vision_config.num_hidden_layers),
            ("transformer", "text_model", model.config.text_config.num_hidden_layers),
        ):
            for number in range(count):
                block, layer = f"{theirs}.resblocks.{number}", f"{tower}.encoder.layers.{number}"
                packed = [state[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                found[f"{block}.attn.in_proj_{kind}"] = torch.cat(packed)
                for one, other in layers.items():
                    found[f"{block}.{one}.{kind}"] = state[f"{layer}.{other}.{kind}"]
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


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

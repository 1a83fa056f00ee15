"""bareclip models: well-known models, and the command that gets each."""

import dataclasses
from dataclasses import dataclass

import click

from .options import json_option
from .output import print_table, say, say_json

# "ImageNet 1k" and "params (M)" of docs/openclip_results.csv in github.com/mlfoundations/open_clip,
# commit f862f86, where all of these were measured alike.
SOURCE = "open_clip's docs/openclip_results.csv"


@dataclass(frozen=True)
class KnownModel:
    """A published model.

    Attributes:
        parameters: In millions, of both towers.
        image: Pixels per side.
        width: Of a vector.
        context: Tokens per text.
        license: As its model card was seen to state it; None where it was not looked at.
        imagenet: Zero-shot top-1 in percent, by ``SOURCE``.
    """

    name: str
    family: str
    parameters: int
    image: int
    width: int
    context: int
    license: str | None
    imagenet: float

    @property
    def command(self) -> str:
        return f"bareclip export {self.name} -o {self.name.rpartition('/')[2]}"


KNOWN = (
    KnownModel("openai/clip-vit-base-patch32", "CLIP ViT-B/32", 151, 224, 512, 77, None, 63.3),
    KnownModel("openai/clip-vit-base-patch16", "CLIP ViT-B/16", 150, 224, 512, 77, None, 68.3),
    KnownModel("openai/clip-vit-large-patch14", "CLIP ViT-L/14", 428, 224, 768, 77, None, 75.5),
    KnownModel(
        "openai/clip-vit-large-patch14-336", "CLIP ViT-L/14", 428, 336, 768, 77, None, 76.6
    ),
    KnownModel("timm/resnet50_clip.openai", "CLIP RN50", 102, 224, 1024, 77, "mit", 59.8),
    KnownModel("timm/resnet101_clip.openai", "CLIP RN101", 120, 224, 512, 77, "mit", 62.3),
    KnownModel("timm/resnet50x4_clip.openai", "CLIP RN50x4", 178, 288, 640, 77, "mit", 66.3),
    KnownModel(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "OpenCLIP ViT-B/32", 151, 224, 512, 77, None, 66.6
    ),
    KnownModel(
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "OpenCLIP ViT-B/32", 151, 224, 512, 77, None, 69.2,
    ),
    KnownModel(
        "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
        "OpenCLIP ViT-B/32", 151, 256, 512, 77, "mit", 72.8,
    ),
    KnownModel(
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        "OpenCLIP ViT-B/16", 150, 224, 512, 77, None, 73.5,
    ),
    KnownModel(
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        "OpenCLIP ViT-L/14", 428, 224, 768, 77, None, 79.2,
    ),
    KnownModel(
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "OpenCLIP ViT-H/14", 986, 224, 1024, 77, None, 78.0,
    ),
    KnownModel(
        "apple/DFN2B-CLIP-ViT-B-16", "OpenCLIP ViT-B/16", 150, 224, 512, 77, "apple-amlr", 76.2
    ),
    KnownModel(
        "apple/DFN2B-CLIP-ViT-L-14", "OpenCLIP ViT-L/14", 428, 224, 768, 77, "apple-amlr", 81.4
    ),
    KnownModel("timm/ViT-B-16-SigLIP", "SigLIP B/16", 203, 224, 768, 64, "apache-2.0", 76.0),
    KnownModel("timm/ViT-B-16-SigLIP-256", "SigLIP B/16", 203, 256, 768, 64, "apache-2.0", 76.5),
    KnownModel("timm/ViT-B-16-SigLIP-384", "SigLIP B/16", 203, 384, 768, 64, "apache-2.0", 78.5),
    KnownModel("timm/ViT-B-16-SigLIP-512", "SigLIP B/16", 204, 512, 768, 64, "apache-2.0", 79.1),
)  # fmt: skip


@click.command()
@json_option
def models(as_json: bool) -> None:
    """Lists well-known models; any other of the same families is exported alike.

    \b
    bareclip models
    """
    if as_json:
        facts = [dataclasses.asdict(model) | {"command": model.command} for model in KNOWN]
        say_json({"imagenet_source": SOURCE, "models": facts})
        return
    header = ["name", "family", "licence", "M", "pixels", "width", "tokens", "ImageNet"]
    rows = [
        [
            model.name,
            model.family,
            model.license or "see its page",
            *map(str, (model.parameters, model.image, model.width, model.context, model.imagenet)),
        ]
        for model in KNOWN
    ]
    print_table(header, rows, right=5)
    say("", f"M is millions of parameters, ImageNet zero-shot top-1 by {SOURCE}.")
    say(f"Get one with: {KNOWN[0].command}")

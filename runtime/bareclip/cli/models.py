"""bareclip models: well-known models, what each is good for, and the command that gets it."""

import dataclasses
from dataclasses import dataclass

import click

from .options import json_option
from .output import print_table, say, say_json

# Where ImageNet's figures are from. "ImageNet 1k" and "params (M)" of commit f862f86 of
# github.com/mlfoundations/open_clip, where all of those were measured alike; the others are of the
# models' own makers: commits 1659d42 of google-research/big_vision, 2bb193b of microsoft/Cream,
# 44e61d1 (and a later one, of T and S) of facebookresearch/perception_models, and the card of
# apple/MobileCLIP2-S0 (2025).
SOURCE = "open_clip's docs/openclip_results.csv"
SIGLIP_2 = "big_vision's README_siglip2.md"
TINY = "TinyCLIP's README"
MOBILE = "Apple's MobileCLIP cards"
PERCEPTION = "Perception Encoder's README"
# Where recall@1 of images over Crossmodal-3600's 36 languages is from: open_clip's commit 100bcbd.
LANGUAGES = "open_clip's docs/openclip_multilingual_retrieval_results.csv"
# Licences that keep a model from products, and what the models are for then. NLLB-CLIP's is that of
# facebook/nllb-200-distilled-1.3B's card, which its texts come from.
RESEARCH = {"apple-amlr": "research only", "cc-by-nc": "not commercial"}


@dataclass(frozen=True)
class KnownModel:
    """A published model.

    Attributes:
        parameters: In millions, of both towers.
        image: Pixels per side; None of a text tower, which ``bareclip pair`` joins to another's.
        width: Of a vector.
        context: Tokens per text.
        license: As its model card was seen to state it; None where it was not looked at.
        imagenet: Zero-shot top-1 in percent; None where no figure is at hand.
        source: Who measured that.
        languages: Recall@1 of images over 36 languages, in percent.
    """

    name: str
    family: str
    parameters: int
    image: int | None
    width: int
    context: int
    license: str | None
    imagenet: float | None = None
    source: str = SOURCE
    languages: float | None = None

    @property
    def terms(self) -> str:
        """The licence, with a warning where it is for research only."""
        if self.license is None:
            return "see its page"
        limit = RESEARCH.get(self.license)
        return f"{self.license}: {limit}" if limit else self.license

    @property
    def figures(self) -> tuple[float | None, ...]:
        """What a table shows of it, in numbers."""
        sizes = (self.parameters, self.image, self.width, self.context)
        return (*sizes, self.imagenet, self.languages)

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
    KnownModel(
        "laion/CLIP-convnext_base_w-laion2B-s13B-b82K-augreg",
        "OpenCLIP ConvNeXt-B", 179, 256, 640, 77, None, 71.5,
    ),
    KnownModel(
        "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
        "OpenCLIP ConvNeXt-L", 352, 320, 768, 77, None, 76.9,
    ),
    KnownModel(
        "apple/MobileCLIP-S2-OpenCLIP",
        "MobileCLIP S2", 99, 256, 512, 77, "apple-amlr", 74.4, MOBILE,
    ),
    *(
        KnownModel(
            f"timm/MobileCLIP2-{size}-OpenCLIP",
            f"MobileCLIP 2 {size}", parameters, 256, width, 77, "apple-amlr", imagenet, MOBILE,
        )
        for size, parameters, width, imagenet in (
            ("S0", 75, 512, 71.5),
            ("S2", 99, 512, 77.2),
            ("S3", 249, 768, 80.7),
            ("S4", 445, 768, 81.9),
        )
    ),
    *(
        KnownModel(f"timm/eva02_{name}", f"EVA-02 {size}", *sizes, 77, terms, imagenet)
        for name, size, sizes, terms, imagenet in (
            ("base_patch16_clip_224.merged2b_s8b_b131k", "B/16", (150, 224, 512), "mit", 74.7),
            ("large_patch14_clip_224.merged2b_s4b_b131k", "L/14", (428, 224, 768), None, 79.8),
            ("large_patch14_clip_336.merged2b_s6b_b61k", "L/14", (428, 336, 768), "mit", 80.4),
        )
    ),
    KnownModel(
        "UCSC-VLAA/ViT-L-14-CLIPA-datacomp1B", "CLIPA L/14", 414, 224, 768, 32, "apache-2.0", 79.6
    ),
    *(
        KnownModel(
            f"timm/PE-Core-{name}", f"PE {size}", *sizes, 32, "apache-2.0", imagenet, PERCEPTION
        )
        for name, size, sizes, imagenet in (
            ("T-16-384", "T/16", (70, 384, 512), 62.1),
            ("S-16-384", "S/16", (87, 384, 512), 72.7),
            ("B-16", "B/16", (448, 224, 1024), 78.4),
            ("L-14-336", "L/14", (671, 336, 1024), 83.5),
        )
    ),
    KnownModel(
        "timm/ViT-B-16-SigLIP", "SigLIP B/16", 203, 224, 768, 64, "apache-2.0", 76.0, SOURCE, 16.7
    ),
    KnownModel("timm/ViT-B-16-SigLIP-256", "SigLIP B/16", 203, 256, 768, 64, "apache-2.0", 76.5),
    KnownModel("timm/ViT-B-16-SigLIP-384", "SigLIP B/16", 203, 384, 768, 64, "apache-2.0", 78.5),
    KnownModel("timm/ViT-B-16-SigLIP-512", "SigLIP B/16", 204, 512, 768, 64, "apache-2.0", 79.1),
    *(
        KnownModel(f"timm/{name}", family, *sizes, 64, "apache-2.0", imagenet, SIGLIP_2)
        for name, family, sizes, imagenet in (
            ("ViT-B-32-SigLIP2-256", "SigLIP 2 B/32", (377, 256, 768), 74.0),
            ("ViT-B-16-SigLIP2", "SigLIP 2 B/16", (375, 224, 768), 78.2),
            ("ViT-B-16-SigLIP2-384", "SigLIP 2 B/16", (376, 384, 768), 80.6),
            ("ViT-L-16-SigLIP2-256", "SigLIP 2 L/16", (882, 256, 1024), 82.5),
            ("ViT-SO400M-16-SigLIP2-384", "SigLIP 2 SO400M/16", (1136, 384, 1152), 84.1),
        )
    ),
    KnownModel(
        "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M",
        "TinyCLIP ViT-8M/16", 23, 224, 512, 77, "mit", 41.1, TINY,
    ),
    KnownModel(
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        "XLM-R, ViT-B/32", 366, 224, 512, 77, "mit", languages=42.6,
    ),
    KnownModel(
        "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
        "XLM-R, ViT-H/14", 1193, 224, 1024, 77, "mit", languages=50.2,
    ),
    KnownModel(
        "visheratin/nllb-siglip-mrl-base",
        "NLLB, SigLIP B/16", 508, 384, 768, 77, "cc-by-nc", languages=55.4,
    ),
    KnownModel(
        "visheratin/nllb-siglip-mrl-large",
        "NLLB, SigLIP SO400M", 1195, 384, 1152, 77, "cc-by-nc", languages=60.8,
    ),
    KnownModel(
        "sentence-transformers/clip-ViT-B-32-multilingual-v1",
        "texts for CLIP ViT-B/32", 135, None, 512, 128, "apache-2.0",
    ),
    KnownModel(
        "M-CLIP/XLM-Roberta-Large-Vit-L-14",
        "texts for CLIP ViT-L/14", 560, None, 768, 512, None,
    ),
    KnownModel(
        "OFA-Sys/chinese-clip-vit-base-patch16",
        "Chinese-CLIP ViT-B/16", 188, 224, 512, 512, None,
    ),
    KnownModel(
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        "BiomedCLIP ViT-B/16", 196, 224, 512, 256, "mit",
    ),
)  # fmt: skip
# What to take for what, and why: of those above, by their figures and licences there.
USES = (
    (
        "a server's CPU",
        "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
        "64 patches per image, and the most accurate with so few; with --precision int8",
    ),
    (
        "many languages",
        "timm/ViT-B-16-SigLIP2",
        f"trained on texts of many languages ({SIGLIP_2}); B-32-SigLIP2-256 is faster",
    ),
    (
        "many languages, on a GPU",
        "laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
        "50.2 over 36 languages; nllb-siglip-mrl-large has 60.8, and is not for commercial use",
    ),
    (
        "a Raspberry Pi",
        "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M",
        "half of a ViT-B/32's time, a sixth of its size; a ViT-B/32 in int8 is more accurate",
    ),
    (
        "the best answers",
        "timm/ViT-SO400M-16-SigLIP2-384",
        "for a GPU, or when time does not count",
    ),
)


@click.command()
@json_option
def models(as_json: bool) -> None:
    """Lists well-known models; any other of the same families is exported alike.

    \b
    bareclip models
    """
    if as_json:
        facts = [dataclasses.asdict(model) | {"command": model.command} for model in KNOWN]
        uses = [{"use": use, "model": model, "reason": reason} for use, model, reason in USES]
        sources = {"imagenet_source": SOURCE, "languages_source": LANGUAGES}
        say_json(sources | {"models": facts, "uses": uses})
        return
    header = [
        *("name", "family", "licence", "M", "pixels", "width", "tokens", "ImageNet"),
        "36 languages",
    ]
    rows = [
        [
            model.name,
            model.family,
            model.terms,
            *("-" if value is None else str(value) for value in model.figures),
        ]
        for model in KNOWN
    ]
    print_table(header, rows, right=6)
    say(
        "",
        f"M is millions of parameters, ImageNet zero-shot top-1 by {SOURCE};",
        f"SigLIP 2's by {SIGLIP_2}, TinyCLIP's by {TINY},",
        f"MobileCLIP's by {MOBILE}, PE's by {PERCEPTION}.",
        "36 languages is recall@1 of Crossmodal-3600's images, the mean of its languages, by",
        f"{LANGUAGES}.",
        "NLLB's texts want their language named: --language kor_Hang. Those of a text tower alone",
        "are joined to the images of the model that is named: bareclip pair IMAGES TEXTS -o OUT.",
        "",
    )
    print_table(["for", "take", "because"], USES, right=0)
    say("")
    say(f"Get one with: {KNOWN[0].command}")

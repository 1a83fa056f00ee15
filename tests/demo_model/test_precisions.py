"""int8 and int4 of the demo model on held-out pictures that calibrated nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip.bundle import Bundle
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from demo_model import evaluate as evaluation
from demo_model import splits
from demo_model.compose import SpriteBook
from demo_model.concepts import load_concepts
from tests.demo_model.font import FONT, needs_figures_font

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore"), needs_figures_font]

EACH = 10


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, calibrated on pictures in training's ranges."""
    root = tmp_path_factory.mktemp("demo")
    concepts, book = load_concepts(), SpriteBook(FONT)
    (root / "photos").mkdir()
    drawn = splits.validation_pictures(book, concepts[::4], 1, evaluation.PICTURE_SIDE)
    for number, item in enumerate(drawn):
        Image.fromarray(item.picture).save(root / "photos" / f"{number:03}.png")
    (root / "captions.txt").write_text("\n".join(f"a photo of a {c.name}" for c in concepts))
    folder = Path(shutil.copytree(bareclip.load().bundle.folder, root / "bundle"))
    data = Data.read(root / "photos", root / "captions.txt")
    for precision in ("int8", "int4"):
        quantize(Bundle.read(folder), precision, data)
    return folder


def test_accuracy_and_cosines_on_held_out_renderings(quantized: Path) -> None:
    concepts = load_concepts()
    labels = splits.plain_labels(concepts, evaluation.LABEL_COUNT)
    chosen = [concept for concept in concepts if concept.name in labels]
    drawn = splits.rendering_pictures(SpriteBook(FONT), chosen, EACH, evaluation.PICTURE_SIDE)
    true = np.array([labels.index(item.label) for item in drawn])
    right, vectors = {}, {}
    for precision in ("fp32", "int8", "int4"):
        clip = bareclip.load(quantized, precision=precision, reading="as_stored")
        vectors[precision] = clip.embed_images([item.picture for item in drawn])
        probabilities = clip.classifier(labels).probabilities(vectors[precision])
        right[precision] = float((probabilities.argmax(axis=1) == true).mean())
    print({name: f"{share:.2%}" for name, share in right.items()})
    assert right["fp32"] - right["int8"] <= 0.005
    assert right["fp32"] - right["int4"] <= 0.02
    assert (vectors["int8"] * vectors["fp32"]).sum(axis=1).min() >= 0.98

"""Live against open_clip 3.3: CLIPA, whose texts have padding for BERT's separator."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip.images.pixels import read_pixels
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.export import export
from bareclip_export.open_clip_models import config_of_name
from bareclip_export.reference import read_tokens
from tests.seeded.open_clip import CONFIGS, full_size, write_checkpoint
from tests.variants import SHAPES, picture

from .awkward import awkward_texts, with_special_tokens
from .conftest import Corpus, long
from .open_clip_oracle import OpenClip
from .test_bert import LANGUAGES, same_ids
from .test_transformers import AWKWARD, show
from .trained_tokenizers import train_word_pieces

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]

SEPARATORS = [
    "[SEP]", "[PAD]", "a [SEP] cat", "a[SEP]cat[PAD]dog", "[[SEP]] [SEP][SEP] [sep] [Sep]",
    "[SEP\u200b] [S\x00EP] [ SEP ] ［SEP］ &#91;SEP&#93; &amp;#91;SEP&amp;#93;",
    "[SEP]\u0301 é[SEP]é", "[MASK[SEP] [PAD[SEP]]", "[CLS] [MASK] [UNK]",
    "cat " * 40 + "[SEP]", "cat " * 29 + "[SEP] cat", "[SEP]" * 40, " [SEP]\t\n[SEP] ",
]  # fmt: skip
TEXTS = [*SEPARATORS, *LANGUAGES, *AWKWARD, *awkward_texts(600), *with_special_tokens(200)]


# Of the two largest kinds two blocks per tower, of the whole width.
LARGE = ("ViT-H-14-CLIPA", "ViT-bigG-14-CLIPA-336")


@pytest.mark.parametrize("name", ["tiny-clipa", *long("ViT-L-14-CLIPA", *LARGE)])
def test_a_bundle_answers_as_open_clip(tmp_path: Path, corpus: Corpus, name: str) -> None:
    known = name if name not in CONFIGS else "ViT-L-14-CLIPA"
    published = config_of_name(f"{known}__datacomp1b")
    model = CONFIGS.get(name) or full_size(published["model_cfg"])
    if name in LARGE:
        sections = ("vision_cfg", "text_cfg")
        model |= {section: model[section] | {"layers": 2} for section in sections}
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    train_word_pieces(folder, [*corpus.texts, *LANGUAGES * 3], 900, lower=True)
    write_checkpoint(folder, model, published["preprocess_cfg"])
    oracle = OpenClip.load(folder)
    bundle = export(str(folder), tmp_path / name)
    clip = bareclip.load(tmp_path / name, reading="as_stored")
    wanted_ids = [oracle.ids(text) for text in TEXTS]
    same_ids(clip, TEXTS, wanted_ids)
    own = read_tokens(Checkpoint.open(str(folder)))
    for text, ids in zip(TEXTS, wanted_ids, strict=True):
        found = own(text)
        cut = [*found[:31], 0] if len(found) > 32 else found + [0] * (32 - len(found))
        assert cut == ids, text
    images = [picture(*shape) for shape in SHAPES] + [Image.open(p) for p in corpus.images[::20]]
    for image in images:
        found = read_pixels(image, bundle.image_recipe(), "as_stored")
        np.testing.assert_array_equal(found, oracle.pixels(image), err_msg=str(image.size))
    paths = [*corpus.images[::20]]
    some = [*SEPARATORS, *LANGUAGES, *TEXTS[len(SEPARATORS) :: 19]]
    for what, ours, theirs in (
        ("images", clip.embed_images(paths), oracle.embed_images(paths)),
        ("texts", clip.embed_texts(some), oracle.embed_texts(some)),
    ):
        show(tmp_path / name, f"{len(ours)} {what}", ours, theirs)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)

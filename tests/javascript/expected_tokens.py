"""What Python makes of awkward texts: python -m tests.javascript.expected_tokens FOLDER.

For each family a folder with tokenizer.json, recipe.json, texts.json and ids.json. CLIP's is the
real vocabulary where BARECLIP_DATA has it, else the demo model's; the others are trained here.
"""

import dataclasses
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer as Library
from tokenizers import normalizers

from bareclip.bundle import DEMO, TOKENIZER, TextRecipe
from bareclip.texts.tokenizer import Tokenizer
from bareclip_export.sentencepiece_model import read_siglip
from tests.reference.awkward import awkward_texts, with_special_tokens
from tests.reference.trained_tokenizers import train_gemma, train_sentencepiece

COUNT = 10_000
SIGMAS = ["ΣΑΣ", "ΟΔΥΣΣΕΥΣ ΣΟΦΟΣ", "Σ", "aΣ", "ΑΣ.Α", "ΑΣ'Σ", "σς", "Σ\u0301", "İΣ"]
TEXTS = [*SIGMAS, *awkward_texts(COUNT - 1000 - len(SIGMAS)), *with_special_tokens(1000)]


def main(folder: Path) -> None:
    given = Path(os.environ.get("BARECLIP_DATA", "")) / "clip-bpe" / TOKENIZER
    clip = given if given.is_file() else DEMO / TOKENIZER
    end = 49407 if clip == given else 2047
    write(folder / "clip", clip, TextRecipe(77, end, end, False, ()))
    corpus = [text.lower() for text in awkward_texts(2000, seed=7)]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        train_gemma(place, corpus, 3000, 64, lower=True, frame="$A <eos>")
        # As bareclip's exporter does for SigLIP 2.
        made = Library.from_file(str(place / TOKENIZER))
        made.normalizer = normalizers.Sequence([normalizers.Lowercase(), made.normalizer])
        made.save(str(place / TOKENIZER))
        write(folder / "siglip2", place / TOKENIZER, TextRecipe(64, 0, 1, True, ()))
        try:
            import sentencepiece  # noqa: F401
        except ImportError:
            return
        for name, fallback in (("siglip", False), ("siglip-bytes", True)):
            pieces = train_sentencepiece(place, corpus, 6000, byte_fallback=fallback)
            read_siglip(pieces, ["</s>", "<unk>"], lower=True).save(str(place / TOKENIZER))
            write(folder / name, place / TOKENIZER, TextRecipe(64, 1, 1, True, ()))


def write(folder: Path, tokenizer: Path, recipe: TextRecipe) -> None:
    folder.mkdir(parents=True)
    shutil.copy(tokenizer, folder / TOKENIZER)
    ids = Tokenizer.load(tokenizer, recipe).encode(TEXTS, truncate=True)
    for name, data in (("recipe", dataclasses.asdict(recipe)), ("texts", TEXTS), ("ids", ids)):
        (folder / f"{name}.json").write_text(json.dumps(data))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

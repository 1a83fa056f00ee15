"""Makes goldens.npz: what transformers answers for the tests' seeded checkpoints.

pip install -e '.[cpu,optimum,test]'
python -m tests.goldens.make_goldens
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from tests.seeded.clip import write_checkpoint
from tests.variants import SHAPES, TEXTS, VARIANTS, batch, picture

GOLDENS = Path(__file__).with_name("goldens.npz")


def main() -> None:
    found: dict[str, np.ndarray] = {}
    for name, sizes in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder), sizes)
            model = transformers.CLIPModel.from_pretrained(folder).eval()
            processor = transformers.CLIPImageProcessor.from_pretrained(folder)
            tokenizer = transformers.CLIPTokenizerFast.from_pretrained(
                folder, model_max_length=sizes.context
            )
        tokens = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
        found[f"{name}.ids"] = tokens["input_ids"].numpy()
        images = [Image.fromarray(pixels) for pixels in batch(sizes.image, 6)]
        images += [picture(width, height) for width, height in SHAPES]
        # Unless told, it takes a picture 1 or 3 pixels high for channels first.
        shape = {"input_data_format": "channels_last"}
        for index, image in enumerate(images):
            raw = processor(
                image, do_rescale=False, do_normalize=False, return_tensors="np", **shape
            )
            pixels = raw["pixel_values"][0].transpose(1, 2, 0)
            found[f"{name}.pixels.{index}"] = pixels.astype(np.uint8)
        with torch.inference_mode():
            answer = model(
                pixel_values=processor(images, return_tensors="pt", **shape)["pixel_values"],
                **tokens,
            )
        found[f"{name}.images"] = answer.image_embeds.numpy()
        found[f"{name}.texts"] = answer.text_embeds.numpy()
        found[f"{name}.probabilities"] = answer.logits_per_image.softmax(dim=1).numpy()
    found["versions"] = np.array(
        json.dumps({"transformers": transformers.__version__, "torch": torch.__version__})
    )
    np.savez_compressed(GOLDENS, **found)


if __name__ == "__main__":
    main()

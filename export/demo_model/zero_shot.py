"""Zero-shot classification with a model in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizerFast

from demo_model.backgrounds import Picture
from demo_model.data import normalised, tokenized
from demo_model.model import image_vectors, text_vectors

CHUNK = 256


@torch.no_grad()
def class_vectors(
    model: CLIPModel, tokenizer: CLIPTokenizerFast, names: Sequence[str], templates: Sequence[str]
) -> Tensor:
    """Returns each name's unit vector `[names, 128]`: the mean over the templates' vectors."""
    by_template = [
        text_vectors(model, tokenized(tokenizer, [template.format(name) for name in names]))
        for template in templates
    ]
    return functional.normalize(torch.stack(by_template).mean(dim=0), dim=-1)


@torch.no_grad()
def picture_vectors(model: CLIPModel, pictures: Sequence[Picture]) -> Tensor:
    """Returns each picture's unit vector `[pictures, 128]`."""
    chunks = [pictures[start : start + CHUNK] for start in range(0, len(pictures), CHUNK)]
    return torch.cat([image_vectors(model, normalised(np.stack(chunk))) for chunk in chunks])


def share_right(pictures: Tensor, classes: Tensor, target: Sequence[int]) -> float:
    """Returns the share of pictures nearest to their own class."""
    nearest = (pictures @ classes.T).argmax(dim=1)
    return float((nearest == torch.tensor(target)).float().mean())

"""The main route: our own towers, checked against a float64 forward in NumPy."""

from .checkpoint import Checkpoint
from .graph import ids_input, pixels_input, write_graph
from .layouts import read_model
from .layouts.huggingface_config import read_config
from .reference import Reference
from .route import Conversion
from .towers.text_transformer import TextTransformer
from .towers.vision_transformer import VisionTransformer


def convert(checkpoint: Checkpoint) -> Conversion:
    """Prepares a checkpoint of an architecture we author.

    Raises:
        CheckpointError: Of another architecture, or incomplete.
    """
    model = read_model(checkpoint)
    reference = Reference(checkpoint.tensors, read_config(checkpoint), model.image)
    return Conversion(
        architecture=model.architecture,
        exporter="authored",
        embedding_dim=model.embedding_dim,
        context_length=model.text.positions.shape[0],
        vocabulary=model.text.tokens.shape[0],
        end_id=model.text.end_id,
        scoring=model.scoring,
        image=model.image,
        write={
            "vision": lambda path: write_graph(
                VisionTransformer(model.vision, model.image),
                pixels_input(model.image.size),
                model.embedding_dim,
                path,
            ),
            "text": lambda path: write_graph(
                TextTransformer(model.text), ids_input(), model.embedding_dim, path
            ),
        },
        reference={"vision": reference.embed_pixels, "text": reference.embed_ids},
        reference_name="float64 NumPy",
    )

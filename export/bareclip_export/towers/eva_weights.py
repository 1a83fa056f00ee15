"""What a layout hands to a tower like EVA's, beside what any vision transformer has."""

from dataclasses import dataclass

from .weights import BlockWeights, LinearWeights, NormWeights, VisionTransformerWeights


@dataclass(frozen=True)
class Rotation:
    """Rotary positions of patches, along both axes (Su et al. 2021; Heo et al. 2024).

    A head's numbers are pairs, neighbours, and a pair of queries and keys is turned by an angle:
    in one half of the pairs a place along one axis, in the other along the other, each times
    ``10000 ** -(i / n)`` for the i-th of a half's n pairs. The class token stays as it is.

    Attributes:
        grid: Patches per side.
        reference: What their places, from 0 to ``grid``, are stretched to.
        offset: Added to each place before.
        columns_first: Whether the first half goes along a row of patches, or down a column.
    """

    grid: int
    reference: int
    offset: int
    columns_first: bool


@dataclass(frozen=True)
class GateWeights:
    """What an MLP's hidden units are multiplied by, and the normalisation after it (SwiGLU).

    Attributes:
        expand: From what the MLP takes to factors, before the activation.
        norm: Of the product.
    """

    expand: LinearWeights
    norm: NormWeights


@dataclass(frozen=True)
class EvaBlockWeights(BlockWeights):
    """A block.

    Attributes:
        biased_keys: Whether keys have a bias. Where nothing rotates them it changes nothing.
        inner_norm: Of what attention gives, before its projection; None for none.
        gate: Of the MLP, whose activation is then the gate's; None for none.
        norms_after: Whether what attention and MLP give is normalised, and not what they take.
    """

    biased_keys: bool = False
    inner_norm: NormWeights | None = None
    gate: GateWeights | None = None
    norms_after: bool = False


@dataclass(frozen=True)
class EvaWeights(VisionTransformerWeights):
    """A ViT of such blocks.

    Attributes:
        rotation: Of queries and keys, in all blocks; None for none.
    """

    blocks: tuple[EvaBlockWeights, ...]
    rotation: Rotation | None = None

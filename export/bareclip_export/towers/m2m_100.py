"""M2M-100's encoder, which NLLB's is: token ids in, unit vectors out (Fan et al. 2020)."""

from .attention import Block, EndBlock
from .bert import Bert
from .layers import Op, Value


class M2m100(Bert):
    """As BERT's: (N, T) int64 ids -> (N, D) float32, unit rows; but normalised as a ViT is."""

    block = Block
    end_block = EndBlock

    def enter(self, op: Op, x: Value) -> Value:
        return x

    def leave(self, op: Op, x: Value) -> Value:
        return self.norm(op, x)

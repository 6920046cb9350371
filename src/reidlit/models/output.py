"""What every re-identification model returns."""

from typing import NamedTuple

from torch import Tensor


class ReIDOutput(NamedTuple):
    """The same in training and in evaluation, one entry a branch in `features` and `logits`.

    `embedding` (B, D) is what is compared at test time, `features` (B, D_i) what metric losses read, `logits` (B, C)
    what classification losses read.
    """

    embedding: Tensor
    features: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]

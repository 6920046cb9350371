"""The features of all ranks on each rank, with their gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from reidlit.models.output import ReIDOutput


class Gathered(NamedTuple):
    """A model's output and labels over the batches of all ranks, in the order of the ranks."""

    output: ReIDOutput
    pid: Tensor


def gather(output: ReIDOutput, pid: Tensor) -> Gathered:
    """Join the batches of all ranks, as losses need them that compare images with each other.

    Each rank computes the same loss of the union. The gradient of a rank's own features is the sum of what all ranks
    hold, and `DistributedDataParallel` averages over the ranks, so that parameters get the gradient of one process that
    had the whole batch.

    Args:
        output: of this rank's batch (B, ...); batches must be of equal size.
        pid: (B,).

    Returns:
        The same of W * B images; without other ranks, what was given.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return Gathered(output, pid)
    joined = ReIDOutput(
        _Joined.apply(output.embedding),
        tuple(_Joined.apply(features) for features in output.features),
        tuple(_Joined.apply(logits) for logits in output.logits),
    )
    return Gathered(joined, _join(pid))


def _join(value: Tensor) -> Tensor:
    joined = value.new_empty(distributed.get_world_size() * len(value), *value.shape[1:])
    distributed.all_gather_into_tensor(joined, value.contiguous())
    return joined


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """(B, ...) -> (W * B, ...)."""
        ctx.size = len(value)
        return _join(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        """The sum over ranks, of which this rank takes its own part."""
        total: Tensor = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        start = distributed.get_rank() * ctx.size
        return total[start : start + ctx.size]

"""Gathering of model outputs from all ranks, with gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from reidlit.models.output import ReIDOutput


class Gathered(NamedTuple):
    """Model output and labels of the batches of all ranks, in rank order."""

    output: ReIDOutput
    pid: Tensor


def gather(output: ReIDOutput, pid: Tensor) -> Gathered:
    """Concatenate the batches of all ranks, for losses that compare images with each other.

    Each rank then computes the same loss of the complete batch. In the backward pass, the gradients that all ranks have
    for the features of a rank are summed, and `DistributedDataParallel` averages the gradients of parameters over
    ranks. So parameters get the same gradient as in a single process with the complete batch.

    Args:
        output: Model output of the batch of this rank, (B, ...). All ranks must have the same batch size.
        pid: (B,) labels.

    Returns:
        Output and labels of the W * B images of W ranks; the arguments themselves if there is a single rank.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return Gathered(output, pid)
    gathered = ReIDOutput(
        _AllGather.apply(output.embedding),
        tuple(_AllGather.apply(features) for features in output.features),
        tuple(_AllGather.apply(logits) for logits in output.logits),
    )
    return Gathered(gathered, _all_gather(pid))


def _all_gather(value: Tensor) -> Tensor:
    gathered = value.new_empty(distributed.get_world_size() * len(value), *value.shape[1:])
    distributed.all_gather_into_tensor(gathered, value.contiguous())
    return gathered


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """Concatenate the (B, ...) tensors of W ranks to (W * B, ...)."""
        ctx.size = len(value)
        return _all_gather(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        """Sum the gradient over ranks, and return the slice of this rank."""
        total: Tensor = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        start = distributed.get_rank() * ctx.size
        return total[start : start + ctx.size]

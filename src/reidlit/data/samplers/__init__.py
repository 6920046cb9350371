"""Batch samplers, which choose the samples of every training batch on every rank.

`batch_size` is the global batch size. The sequence of global batches depends only on the seed and the epoch, and each rank
receives its part of every batch, so a run on four devices sees the same batches as a run on one. Pass a sampler to a loader as
`batch_sampler`, and disable the samplers that Lightning would add: `Trainer(use_distributed_sampler=False)`.
"""

from reidlit.data.samplers.domain import DatasetBatches, DealtBatches, DomainBatches, EqualBatches, WeightedBatches
from reidlit.data.samplers.epoch import EpochBatches
from reidlit.data.samplers.identity import CameraIdentityBatches, IdentityBatches
from reidlit.data.samplers.single_pass import RandomBatches, SequentialBatches

__all__ = [
    "CameraIdentityBatches",
    "DatasetBatches",
    "DealtBatches",
    "DomainBatches",
    "EpochBatches",
    "EqualBatches",
    "IdentityBatches",
    "RandomBatches",
    "SequentialBatches",
    "WeightedBatches",
]

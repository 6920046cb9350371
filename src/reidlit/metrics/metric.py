"""Retrieval evaluation as a torchmetrics metric."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from reidlit.metrics.retrieval import Options, check_options, evaluate
from reidlit.metrics.scores import Scores


@dataclass(frozen=True, slots=True)
class EmbeddingSet:
    """Queries or gallery gathered from all processes, ordered by `index`.

    `embedding` is (N, D); `pid`, `camid` and `index` are (N,).
    """

    embedding: Tensor
    pid: Tensor
    camid: Tensor
    index: Tensor


class ReIDMetric(Metric):
    """torchmetrics metric that collects query and gallery embeddings over batches and processes and evaluates them.

    Under DDP, `compute` gathers the embeddings once, orders them by index and drops repeated samples. The scores are
    therefore identical to those of a single process, even if a distributed sampler pads the last batch.

    Args:
        **options: Keyword options of `evaluate`.

    Raises:
        ValueError: If an option is unknown or its value is invalid.

    Example:
        >>> import torch
        >>> from reidlit.metrics import ReIDMetric
        >>> metric = ReIDMetric(metric="cosine")
        >>> embedding = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> pid, camid, index = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
        >>> metric.update(embedding, pid, camid, index, query=torch.tensor([True, False, False]))
        >>> metric.compute().rank(1)
        1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    embedding: list[Tensor]
    label: list[Tensor]
    collected: tuple[EmbeddingSet, EmbeddingSet]  # query and gallery of the last `compute`

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        check_options(options)
        self.options = options
        self.add_state("embedding", [], dist_reduce_fx="cat")
        self.add_state("label", [], dist_reduce_fx="cat")  # pid, camid, index and query, for a single gather

    def update(self, embedding: Tensor, pid: Tensor, camid: Tensor, index: Tensor, query: Tensor) -> None:
        """Add a batch.

        Args:
            embedding: (B, D) embeddings, stored as float32 on their device.
            pid: (B,) identities.
            camid: (B,) cameras; negative if unknown, see `evaluate`.
            index: (B,) index of each sample, unique within the query set and within the gallery.
            query: (B,) booleans, True for queries and False for gallery samples.

        Raises:
            ValueError: If a shape is invalid.
        """
        if embedding.ndim != 2:
            raise ValueError(f"embedding has shape {tuple(embedding.shape)}: must be (B, D).")
        labels = {"pid": pid, "camid": camid, "index": index, "query": query}
        for name, value in labels.items():
            if value.shape != embedding.shape[:1]:
                raise ValueError(f"{name} has shape {tuple(value.shape)}: must be ({len(embedding)},), like embedding.")
        columns = [value.to(device=embedding.device, dtype=torch.int64) for value in labels.values()]
        self.embedding.append(embedding.detach().float())
        self.label.append(torch.stack(columns, dim=1))

    def compute(self) -> Scores:
        """Evaluate all samples of all processes since the last reset; every process returns the same scores.

        Raises:
            ValueError: If there is no query or no gallery sample, different samples have the same index, or `evaluate`
                raises an error.
        """
        label = dim_zero_cat(self.label).cpu().numpy() if len(self.label) else np.empty((0, 4), np.int64)
        is_query = label[:, 3] == 1
        for name, rows in (("query", is_query), ("gallery", ~is_query)):
            if not rows.any():
                raise ValueError(f"ReIDMetric received no {name} samples: update it with both sets before compute.")
        embedding = dim_zero_cat(self.embedding)
        self.collected = (
            _embedding_set(embedding, label, is_query, "query"),
            _embedding_set(embedding, label, ~is_query, "gallery"),
        )
        query, gallery = self.collected
        labels = (query.pid, gallery.pid, query.camid, gallery.camid)
        return evaluate(query.embedding, gallery.embedding, *labels, **self.options)

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Update without computing batch scores, because one batch cannot be evaluated."""
        self.update(*args, **kwargs)

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[..., Any] | None = None,
    ) -> None:
        """Gather the samples of all processes, with the arguments of `torchmetrics.Metric.sync`."""
        if should_sync and distributed.is_available() and distributed.is_initialized() and not self._is_synced:
            # A process without samples has a state of another shape and dtype, which would make the gather hang.
            dim = torch.tensor(self.embedding[0].shape[1] if self.embedding else 0, device=self.device)
            distributed.all_reduce(dim, distributed.ReduceOp.MAX, group=process_group or self.process_group)
            if not self.embedding and dim > 0:
                self.embedding.append(torch.empty(0, int(dim), device=self.device))
                self.label.append(torch.empty(0, 4, dtype=torch.int64, device=self.device))
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)


def _embedding_set(
    embedding: Tensor, label: NDArray[np.int64], is_member: NDArray[np.bool_], name: str
) -> EmbeddingSet:
    """Return the samples of a set by ascending index, without repetitions."""
    members = np.flatnonzero(is_member)
    _, first, inverse = np.unique(label[members, 2], return_index=True, return_inverse=True)
    differs = (label[members] != label[members[first]][inverse]).any(axis=1)
    if differs.any():
        raise ValueError(
            f"index {label[members[differs.argmax()], 2]} of the {name} set belongs to samples with different pid or "
            "camid. Use unique indices within each set and one ReIDMetric per dataset."
        )
    rows = members[first]
    pid, camid, index = (torch.from_numpy(label[rows, column]) for column in range(3))
    return EmbeddingSet(embedding[torch.from_numpy(rows).to(embedding.device)], pid, camid, index)

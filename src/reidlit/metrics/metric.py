"""Retrieval scores as a torchmetrics metric."""

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
    """Queries or gallery as gathered from all ranks, ordered by `index`: embedding (N, D), the others (N,)."""

    embedding: Tensor
    pid: Tensor
    camid: Tensor
    index: Tensor


class ReIDMetric(Metric):
    """Collects the embeddings of query and gallery over batches and ranks, and evaluates them at the end.

    Under DDP the embeddings are gathered once, in `compute`. Samples are ordered by their index and repeated ones
    dropped, so the result is that of one process, although samplers pad the last batch.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    embedding: list[Tensor]
    label: list[Tensor]
    collected: tuple[EmbeddingSet, EmbeddingSet]  # query and gallery of the last `compute`, for pictures and files

    def __init__(self, **options: Unpack[Options]) -> None:
        """Choose how to evaluate.

        Args:
            **options: Those of `evaluate`.

        Raises:
            ValueError: An unknown option or value.
        """
        super().__init__()
        check_options(options)
        self.options = options
        self.add_state("embedding", [], dist_reduce_fx="cat")
        self.add_state("label", [], dist_reduce_fx="cat")  # pid, camid, index, query: one gather instead of four

    def update(self, embedding: Tensor, pid: Tensor, camid: Tensor, index: Tensor, query: Tensor) -> None:
        """Add a batch.

        Args:
            embedding: (B, D), kept as fp32 on its device.
            pid: (B,) identities.
            camid: (B,) cameras, negative where none is known: see `evaluate`.
            index: (B,) which sample of its set each is, unique within the query set and within the gallery.
            query: (B,) bool, True for a query and False for a gallery sample.

        Raises:
            ValueError: The shapes do not fit.
        """
        if embedding.ndim != 2:
            raise ValueError(f"embedding must be (B, D), got shape {tuple(embedding.shape)}")
        labels = {"pid": pid, "camid": camid, "index": index, "query": query}
        for name, value in labels.items():
            if value.shape != embedding.shape[:1]:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, but the embedding needs ({len(embedding)},)")
        columns = [value.to(device=embedding.device, dtype=torch.int64) for value in labels.values()]
        self.embedding.append(embedding.detach().float())
        self.label.append(torch.stack(columns, dim=1))

    def compute(self) -> Scores:
        """Scores of everything seen by all ranks since the last reset; equal on every rank.

        Raises:
            ValueError: There is no query or no gallery, an index is used twice for different samples, or `evaluate`
                refuses the embeddings.
        """
        label = dim_zero_cat(self.label).cpu().numpy() if len(self.label) else np.empty((0, 4), np.int64)
        is_query = label[:, 3] == 1
        for name, rows in (("query", is_query), ("gallery", ~is_query)):
            if not rows.any():
                raise ValueError(f"ReIDMetric has seen no {name} sample; update it with both sets before compute")
        embedding = dim_zero_cat(self.embedding)
        self.collected = (
            _embedding_set(embedding, label, is_query, "query"),
            _embedding_set(embedding, label, ~is_query, "gallery"),
        )
        query, gallery = self.collected
        labels = (query.pid, gallery.pid, query.camid, gallery.camid)
        return evaluate(query.embedding, gallery.embedding, *labels, **self.options)

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Update only: a batch by itself is no retrieval problem and has no scores."""
        self.update(*args, **kwargs)

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[..., Any] | None = None,
    ) -> None:
        """Gather all ranks' samples; the arguments are those of `torchmetrics.Metric.sync`."""
        if should_sync and distributed.is_available() and distributed.is_initialized() and not self._is_synced:
            # A rank without a sample would send a state of another shape and type, and hang the others.
            dim = torch.tensor(self.embedding[0].shape[1] if self.embedding else 0, device=self.device)
            distributed.all_reduce(dim, distributed.ReduceOp.MAX, group=process_group or self.process_group)
            if not self.embedding and dim > 0:
                self.embedding.append(torch.empty(0, int(dim), device=self.device))
                self.label.append(torch.empty(0, 4, dtype=torch.int64, device=self.device))
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)


def _embedding_set(
    embedding: Tensor, label: NDArray[np.int64], is_member: NDArray[np.bool_], name: str
) -> EmbeddingSet:
    """Return the samples of a set by ascending index, each once although samplers repeat some."""
    members = np.flatnonzero(is_member)
    _, first, which = np.unique(label[members, 2], return_index=True, return_inverse=True)
    differs = (label[members] != label[members[first]][which]).any(axis=1)
    if differs.any():
        raise ValueError(
            f"index {label[members[differs.argmax()], 2]} of the {name} set stands for samples with different pid or "
            "camid; number the samples of each set without repetition, and evaluate each dataset with its own ReIDMetric"
        )
    rows = members[first]
    pid, camid, index = (torch.from_numpy(label[rows, column]) for column in range(3))
    return EmbeddingSet(embedding[torch.from_numpy(rows).to(embedding.device)], pid, camid, index)

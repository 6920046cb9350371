"""Re-ranking by a parameter-free graph neural network on sparse neighbor graphs."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from reidlit.metrics._ranking.tiles import HostTile
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.inputs import as_pair, check_integer
from reidlit.metrics.nearest import nearest

LAYERS = 2


class GNNReranking:
    """Re-ranking by propagating features over the neighbor graph of queries and gallery.

    Row i of the initial N x N matrix A indicates the k1 nearest samples of sample i by cosine similarity, itself
    included. Each of two layers computes `A + A^T` and replaces each row by the sum of the rows of its k2 nearest
    samples, weighted by their squared similarity. Rows are scaled to unit length. The distance is `1 - A_q A_g^T`.

    Source: Zhang et al., "Understanding Image Retrieval Re-Ranking: A Graph Neural Network Perspective",
    arXiv 2012.07620.

    Args:
        k1: Number of nearest samples in the initial features, including the sample itself; reduced for smaller sets.
        k2: Number of nearest samples aggregated per layer, including the sample itself; 1 disables propagation.

    Raises:
        ValueError: If k1 or k2 is not an integer of at least 1, or k2 exceeds k1.

    Example:
        >>> import torch
        >>> from reidlit import evaluate
        >>> from reidlit.metrics import GNNReranking
        >>> query, gallery = torch.eye(2), torch.tensor([[1.0, 0.2], [0.8, 0.6], [0.1, 1.0]])
        >>> evaluate(query, gallery, [0, 1], [0, 0, 1], postprocess=[GNNReranking(k1=2, k2=1)]).rank(1)
        1.0
    """

    def __init__(self, k1: int = 26, k2: int = 7) -> None:
        check_integer("k1", k1, 1)
        check_integer("k2", k2, 1)
        if k2 > k1:
            raise ValueError(f"k2={k2} is invalid: must be at most k1={k1}.")
        self.k1 = k1
        self.k2 = k2

    def __call__(self, query: Tensor, gallery: Tensor) -> "GraphDistances":
        """Build the graph and its features.

        Args:
            query: (Q, D) query embeddings.
            gallery: (G, D) gallery embeddings.

        Returns:
            Distances of every query to every gallery embedding, computed block by block.

        Raises:
            ValueError: If the embeddings are not finite, empty or differ in D.
        """
        query, gallery = as_pair(query, gallery)
        samples = torch.cat([query, gallery])
        distance, index = nearest(samples, samples, self.k1, "cosine")
        features = _unit_rows(_graph(index, np.ones_like(distance)))
        if self.k2 > 1:
            weight = _graph(index[:, : self.k2], (1 - distance[:, : self.k2]) ** 2)
            for _ in range(LAYERS):
                features = _unit_rows(weight @ (features + features.T))
        return GraphDistances(features[: len(query)], features[len(query) :])


class GraphDistances:
    """Distances `1 - cos` between sparse features, computed block by block.

    Args:
        query: (Q, N) float32 features with rows of unit length.
        gallery: (G, N) float32 features with rows of unit length.

    Attributes:
        shape: Numbers of queries and gallery entries, (Q, G).
    """

    device = "cpu"

    def __init__(self, query: sparse.csr_array, gallery: sparse.csr_array) -> None:
        self.shape = (query.shape[0], gallery.shape[0])
        self._query = query
        self._gallery = gallery.T.tocsr()  # converted once instead of for every product

    def block(self, start: int, stop: int) -> HostTile:
        """Return the distances (stop - start, G) float32 of queries `start` to `stop - 1`.

        Rounding can make the distance between equal features slightly negative.
        """
        similarity: NDArray[np.float32] = (self._query[start:stop] @ self._gallery).toarray(order="C")
        return HostTile(np.subtract(1, similarity, out=similarity))


def _graph(index: Integers, weight: NDArray[np.float32]) -> sparse.csr_array:
    """Build a sparse (N, N) matrix with the weights (N, K) of each row in the columns `index` (N, K)."""
    size, k = index.shape
    columns = index.astype(np.int32).ravel()  # half the memory of int64, and products keep the index type
    starts = np.arange(0, size * k + 1, k, dtype=np.int32)
    return sparse.csr_array((weight.ravel(), columns, starts), shape=(size, size))


def _unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """Scale the rows to unit length in place; rows of zeros, from embeddings of zeros, do not change."""
    squares = sparse.csr_array((matrix.data**2, matrix.indices, matrix.indptr), shape=matrix.shape)
    norm = np.sqrt(squares.sum(axis=1)).clip(min=np.finfo(np.float32).tiny)
    matrix.data /= np.repeat(norm, np.diff(matrix.indptr))
    return matrix

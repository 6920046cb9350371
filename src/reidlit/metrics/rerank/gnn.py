"""Re-ranking by a graph neural network without weights, on sparse neighbour graphs."""

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
    """Re-ranking by features that spread over the neighbour graph of query and gallery together.

    A sample's first feature marks its k1 nearest samples by cosine similarity, itself included: row i of the N x N matrix
    A. Each of two layers adds the transpose, `A + A^T`, and makes a row the sum of the rows of its k2 nearest samples,
    weighted by their squared similarity. Rows are scaled to unit length, and the distance is `1 - A_q A_g^T`.

    Source: Zhang et al., "Understanding Image Retrieval Re-Ranking: A Graph Neural Network Perspective",
    arXiv 2012.07620.
    """

    def __init__(self, k1: int = 26, k2: int = 7) -> None:
        """Check the options.

        Args:
            k1: Samples that the first feature marks, the sample itself counted; all where there are fewer.
            k2: Samples that a row is the sum of, itself counted; 1 leaves the layers out.

        Raises:
            ValueError: If k1 or k2 is not an integer of at least 1, or k2 is above k1.
        """
        check_integer("k1", k1, 1)
        check_integer("k2", k2, 1)
        if k2 > k1:
            raise ValueError(f"k2={k2} must be at most k1={k1}")
        self.k1 = k1
        self.k2 = k2

    def __call__(self, query: Tensor, gallery: Tensor) -> "GraphDistances":
        """Build the graph and its features.

        Args:
            query: (Q, D).
            gallery: (G, D).

        Returns:
            The distances of every query to every gallery embedding, computed when a block of them is asked for.

        Raises:
            ValueError: The embeddings are not two sets (N, D) of finite numbers with the same D.
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
    """Distances `1 - cos` between sparse features, one block of queries at a time.

    Attributes:
        shape: (Q, G).
    """

    device = "cpu"

    def __init__(self, query: sparse.csr_array, gallery: sparse.csr_array) -> None:
        """Keep the features.

        Args:
            query: (Q, N) float32 with rows of unit length.
            gallery: (G, N) likewise.
        """
        self.shape = (query.shape[0], gallery.shape[0])
        self._query = query
        self._gallery = gallery.T.tocsr()  # else every product would convert it again

    def block(self, start: int, stop: int) -> HostTile:
        """Distances (stop - start, G) float32 of the queries from start to before stop.

        Rounding can make the distance of equal features slightly negative.
        """
        similarity: NDArray[np.float32] = (self._query[start:stop] @ self._gallery).toarray(order="C")
        return HostTile(np.subtract(1, similarity, out=similarity))


def _graph(index: Integers, weight: NDArray[np.float32]) -> sparse.csr_array:
    """Sparse (N, N) matrix with weight (N, K) of each row in the columns index (N, K)."""
    size, k = index.shape
    columns = index.astype(np.int32).ravel()  # half the memory of int64, which products would inherit
    starts = np.arange(0, size * k + 1, k, dtype=np.int32)
    return sparse.csr_array((weight.ravel(), columns, starts), shape=(size, size))


def _unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """The matrix with rows scaled to unit length in place; a row of zeros, from an embedding of zeros, stays."""
    squares = sparse.csr_array((matrix.data**2, matrix.indices, matrix.indptr), shape=matrix.shape)
    norm = np.sqrt(squares.sum(axis=1)).clip(min=np.finfo(np.float32).tiny)
    matrix.data /= np.repeat(norm, np.diff(matrix.indptr))
    return matrix

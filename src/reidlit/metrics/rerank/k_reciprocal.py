"""k-reciprocal re-ranking with neighbor lists instead of dense matrices."""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from torch import Tensor

from reidlit.metrics._ranking.reciprocal_kernels import blend, encode, set_sizes
from reidlit.metrics._ranking.threads import parallel_for
from reidlit.metrics._ranking.tiles import HostTile, Tile
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.distance import EmbeddingDistances, iter_tiles
from reidlit.metrics.inputs import as_pair, check_integer
from reidlit.metrics.nearest import nearest_of_all


class KReciprocal:
    """k-reciprocal re-ranking.

    Each sample of queries and gallery is encoded as a sparse distribution over its k-reciprocal neighbors, averaged
    over its `k2` nearest neighbors. The new distance blends the Jaccard distance between two encodings with their
    squared Euclidean distance, divided by the largest distance of the query. The time is that of one product of all
    samples with all samples. Memory is needed for the neighbor lists only.

    Source: Zhun Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

    Args:
        k1: Number of nearest neighbors in which k-reciprocal neighbors are searched.
        k2: Number of nearest neighbors over which encodings are averaged; 1 disables averaging.
        lambda_value: Weight of the original distance, from 0 to 1.
        exponent: Exponent of the Euclidean distance. 2 is the paper's; 4 reproduces Torchreid, which squares twice.

    Raises:
        ValueError: If a parameter is out of range.

    Example:
        >>> import torch
        >>> from reidlit import evaluate
        >>> from reidlit.metrics import KReciprocal
        >>> query, gallery = torch.eye(2), torch.tensor([[1.0, 0.2], [0.8, 0.6], [0.1, 1.0]])
        >>> evaluate(query, gallery, [0, 1], [0, 0, 1], postprocess=[KReciprocal(k1=2, k2=1)]).rank(1)
        1.0
    """

    def __init__(self, k1: int = 20, k2: int = 6, lambda_value: float = 0.3, exponent: float = 2) -> None:
        check_integer("k1", k1, 1)
        check_integer("k2", k2, 1)
        if not 0 <= lambda_value <= 1:
            raise ValueError(f"lambda_value={lambda_value} is invalid: must be from 0 to 1.")
        if not 0 < exponent < math.inf:
            raise ValueError(f"exponent={exponent} is invalid: must be finite and greater than 0. The paper uses 2.")
        self.k1 = k1
        self.k2 = k2
        self.lambda_value = lambda_value
        self.exponent = exponent

    def __repr__(self) -> str:
        """Return the parameters."""
        return f"KReciprocal(k1={self.k1}, k2={self.k2}, lambda={self.lambda_value}, exponent={self.exponent})"

    def __call__(self, query: Tensor, gallery: Tensor) -> "KReciprocalDistances":
        """Encode all samples and return the re-ranked distances of queries (Q, D) to a gallery (G, D)."""
        return KReciprocalDistances(query, gallery, self)


class KReciprocalDistances:
    """Re-ranked distances, computed tile by tile.

    Args:
        query: (Q, D) query embeddings.
        gallery: (G, D) gallery embeddings.
        options: Parameters of the re-ranking.
    """

    device = "cpu"

    def __init__(self, query: Tensor, gallery: Tensor, options: KReciprocal) -> None:
        self.shape = (len(query), len(gallery))
        self.options = options
        self.power = options.exponent / 2  # exponent of the squared distance
        samples = torch.cat([query, gallery])
        neighbors, largest = nearest_of_all(samples, max(options.k1 + 1, options.k2))
        self.largest = np.maximum(largest, np.finfo(np.float32).tiny)  # not 0, even if all embeddings are equal
        codes = self._encode(samples.cpu().numpy(), neighbors)
        self.query_codes = codes[: len(query)].tocsr()
        self.gallery_codes = codes[len(query) :].tocsc()
        self.distances = EmbeddingDistances(query, gallery)

    def block(self, start: int, stop: int) -> Tile:
        """Return the tile as in `Distances`."""
        values = self.distances.block(start, stop).finished()
        largest, queries = self.largest[start:stop], self.query_codes[start:stop]
        gallery_codes = (self.gallery_codes.indptr, self.gallery_codes.indices, self.gallery_codes.data)

        def blend_rows(rows: slice) -> None:
            query_codes = (queries.indptr[rows.start : rows.stop + 1], queries.indices, queries.data)
            blend(values[rows], largest[rows], self.power, self.options.lambda_value, query_codes, gallery_codes)

        parallel_for(len(values), blend_rows)
        return HostTile(values)

    def _encode(self, embedding: NDArray[np.float32], neighbors: Integers) -> sparse.csr_array:
        """Encode each of N samples as a row of a sparse (N, N) matrix."""
        options, count = self.options, len(embedding)
        lists = np.ascontiguousarray(neighbors[:, : options.k1 + 1])
        half = min(int(np.around(options.k1 / 2)) + 1, lists.shape[1])
        sizes = np.empty(count, np.int64)
        parallel_for(count, lambda rows: set_sizes(lists, half, rows.start, sizes[rows]))
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        columns, values = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.float32)

        def encode_rows(rows: slice) -> None:
            encode(embedding, lists, half, self.largest, self.power, offsets, rows.start, rows.stop, columns, values)

        parallel_for(count, encode_rows)
        codes = sparse.csr_array((values, columns, offsets), shape=(count, count))
        if options.k2 == 1:
            return codes
        nearest = neighbors[:, : options.k2]
        equal = np.full(nearest.size, 1 / nearest.shape[1], np.float32)
        averages = sparse.csr_array((equal, nearest.reshape(-1), np.arange(count + 1) * nearest.shape[1]), codes.shape)
        return averages @ codes


def rerank(
    query: ArrayLike | Tensor,
    gallery: ArrayLike | Tensor,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    exponent: float = 2,
) -> NDArray[np.float32]:
    """Compute the (Q, G) distance matrix of k-reciprocal re-ranking, for `evaluate(..., distance=...)`.

    For large sets, pass `postprocess=[KReciprocal()]` to `evaluate` instead, which never stores the matrix.

    Source: Zhun Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

    Args:
        query: (Q, D) query embeddings, array or tensor. Normalize them first to compare by cosine.
        gallery: (G, D) gallery embeddings, like `query`.
        k1: Number of nearest neighbors in which k-reciprocal neighbors are searched.
        k2: Number of nearest neighbors over which encodings are averaged; 1 disables averaging.
        lambda_value: Weight of the original distance, from 0 to 1.
        exponent: Exponent of the Euclidean distance. 2 is the paper's; 4 reproduces Torchreid, which squares twice.

    Returns:
        (Q, G) float32 re-ranked distances.

    Raises:
        ValueError: If a parameter is out of range, or the embeddings are not finite, empty or differ in D.

    Example:
        >>> import numpy as np
        >>> from reidlit import evaluate, rerank
        >>> query, gallery = np.eye(2), np.array([[1.0, 0.2], [0.8, 0.6], [0.1, 1.0]])
        >>> distance = rerank(query, gallery, k1=2, k2=1)
        >>> distance.shape
        (2, 3)
        >>> evaluate(None, None, [0, 1], [0, 0, 1], distance=distance).rank(1)
        1.0
    """
    options = KReciprocal(k1, k2, lambda_value, exponent)
    distances = options(*as_pair(query, gallery))
    matrix = np.empty(distances.shape, np.float32)
    for start, stop, tile in iter_tiles(distances, what="re-ranking"):
        matrix[start:stop] = tile.finished()
    return matrix

"""k-reciprocal re-ranking with neighbour lists instead of matrices."""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from torch import Tensor

from reidlit.metrics._ranking.reciprocal_kernels import blend, encode, set_sizes
from reidlit.metrics._ranking.threads import share
from reidlit.metrics._ranking.tiles import HostTile, Tile
from reidlit.metrics._ranking.types import Integers
from reidlit.metrics.distance import EmbeddingDistances, iter_tiles
from reidlit.metrics.inputs import as_pair, check_integer
from reidlit.metrics.nearest import nearest_of_all


class KReciprocal:
    """Re-ranking by the overlap of k-reciprocal neighbours: a match also shares one's neighbours.

    Each sample, query or gallery, is encoded as a sparse distribution over its reciprocal neighbours, which is averaged
    over its `k2` nearest; the Jaccard distance of two such rows is blended with their squared Euclidean distance, divided
    by the largest of the query. Time is that of one product of all samples with all; memory is that of the lists.

    Source: Zhun Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.
    """

    def __init__(self, k1: int = 20, k2: int = 6, lambda_value: float = 0.3, exponent: float = 2) -> None:
        """Choose the parameters.

        Args:
            k1: Neighbours of which the reciprocal ones encode a sample.
            k2: Neighbours that a code is averaged over; 1 leaves it.
            lambda_value: Share of the original distance, from 0 to 1.
            exponent: Of the Euclidean distance: 2 is the paper's; 4 gives Torchreid's results, which squares twice.

        Raises:
            ValueError: A parameter is out of range.
        """
        check_integer("k1", k1, 1)
        check_integer("k2", k2, 1)
        if not 0 <= lambda_value <= 1:
            raise ValueError(f"lambda_value={lambda_value} must be from 0 to 1")
        if not 0 < exponent < math.inf:
            raise ValueError(f"exponent={exponent} must be above 0; 2 is the paper's")
        self.k1 = k1
        self.k2 = k2
        self.lambda_value = lambda_value
        self.exponent = exponent

    def __repr__(self) -> str:
        """The parameters."""
        return f"KReciprocal(k1={self.k1}, k2={self.k2}, lambda={self.lambda_value}, exponent={self.exponent})"

    def __call__(self, query: Tensor, gallery: Tensor) -> "KReciprocalDistances":
        """Prepare the distances of queries (Q, D) to a gallery (G, D)."""
        return KReciprocalDistances(query, gallery, self)


class KReciprocalDistances:
    """Re-ranked `Distances`, computed one tile at a time."""

    device = "cpu"

    def __init__(self, query: Tensor, gallery: Tensor, options: KReciprocal) -> None:
        """Encode all samples.

        Args:
            query: (Q, D).
            gallery: (G, D).
            options: The parameters.
        """
        self.shape = (len(query), len(gallery))
        self.options = options
        self.power = options.exponent / 2  # of the squared distance
        samples = torch.cat([query, gallery])
        neighbours, largest = nearest_of_all(samples, max(options.k1 + 1, options.k2))
        self.largest = np.maximum(largest, np.finfo(np.float32).tiny)  # all embeddings may be equal
        codes = self._encode(samples.cpu().numpy(), neighbours)
        self.query_codes = codes[: len(query)].tocsr()
        self.gallery_codes = codes[len(query) :].tocsc()
        self.distances = EmbeddingDistances(query, gallery)

    def block(self, start: int, stop: int) -> Tile:
        """As in `Distances`."""
        values = self.distances.block(start, stop).finished()
        largest, queries = self.largest[start:stop], self.query_codes[start:stop]
        gallery_codes = (self.gallery_codes.indptr, self.gallery_codes.indices, self.gallery_codes.data)

        def blend_rows(own: slice) -> None:
            query_codes = (queries.indptr[own.start : own.stop + 1], queries.indices, queries.data)
            blend(values[own], largest[own], self.power, self.options.lambda_value, query_codes, gallery_codes)

        share(len(values), blend_rows)
        return HostTile(values)

    def _encode(self, embedding: NDArray[np.float32], neighbours: Integers) -> sparse.csr_array:
        """Codes (N, N), sparse."""
        options, count = self.options, len(embedding)
        lists = np.ascontiguousarray(neighbours[:, : options.k1 + 1])
        half = min(int(np.around(options.k1 / 2)) + 1, lists.shape[1])
        sizes = np.empty(count, np.int64)
        share(count, lambda own: set_sizes(lists, half, own.start, sizes[own]))
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        columns, values = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.float32)

        def encode_rows(own: slice) -> None:
            encode(embedding, lists, half, self.largest, self.power, offsets, own.start, own.stop, columns, values)

        share(count, encode_rows)
        codes = sparse.csr_array((values, columns, offsets), shape=(count, count))
        if options.k2 == 1:
            return codes
        nearest = neighbours[:, : options.k2]
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
    """k-reciprocal re-ranking, as `KReciprocal` describes it, as a matrix for `evaluate(..., distance=)`.

    For large sets hand `KReciprocal()` to `evaluate(..., postprocess=)` instead: it never makes the matrix.

    Args:
        query: (Q, D) embeddings, NumPy or torch; of unit length if they are compared by cosine.
        gallery: (G, D) likewise.
        k1: As in `KReciprocal`.
        k2: Likewise.
        lambda_value: Likewise.
        exponent: Likewise.

    Returns:
        (Q, G) distances.

    Raises:
        ValueError: An argument does not fit.
    """
    options = KReciprocal(k1, k2, lambda_value, exponent)
    distances = options(*as_pair(query, gallery))
    matrix = np.empty(distances.shape, np.float32)
    for start, stop, tile in iter_tiles(distances, what="re-ranking"):
        matrix[start:stop] = tile.finished()
    return matrix

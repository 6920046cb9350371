"""Nearest neighbors against a full stable sort."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from reidlit.metrics import evaluate, nearest, pairwise_distance
from reidlit.metrics._ranking import tiles
from reidlit.metrics._ranking.list_kernels import COLUMN_CHUNK
from reidlit.metrics._ranking.tiles import HostTile, RankingRequest
from reidlit.metrics.distance import EmbeddingDistances
from reidlit.metrics.nearest import nearest_of_all, nearest_others
from reidlit.metrics.protocols import CrossCamera


def random_embeddings(seed, size, dim=16, *, ties=False):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2, (size, dim)) if ties else rng.normal(size=(size, dim))
    return torch.from_numpy(values.astype(np.float32))


def naive(distance, k):
    """First k entries of a full stable sort."""
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, order, 1), order


def naive_others(distance, k):
    order = np.argsort(distance, axis=1, kind="stable")
    order = np.array([[j for j in row if j != i][:k] for i, row in enumerate(order)], np.int64)
    return np.take_along_axis(distance, order, 1), order


def assert_equal(actual, expected):
    distance, indices = expected
    np.testing.assert_array_equal(actual.indices, indices)
    np.testing.assert_array_equal(actual.distance, distance)
    assert actual.indices.dtype == np.int64
    assert actual.distance.dtype == np.float32


SIZES = [1, 2, COLUMN_CHUNK - 1, COLUMN_CHUNK, COLUMN_CHUNK + 1, 2 * COLUMN_CHUNK, 1000]
LENGTHS = [1, 2, 5, COLUMN_CHUNK - 1, COLUMN_CHUNK, COLUMN_CHUNK + 1, 300, 5000]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("size", SIZES)
def test_nearest_equals_full_sort(size, metric, ties):
    query, gallery = random_embeddings(1, 9, ties=ties), random_embeddings(2, size, ties=ties)
    distance = pairwise_distance(query, gallery, metric).numpy()
    for k in [*LENGTHS, size, size + 1]:
        actual = nearest(query, gallery, k, metric)
        assert actual.indices.shape == (9, min(k, size))
        assert_equal(actual, naive(distance, k))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("order", ["descending", "ascending", "equal", "descending with ties"])
def test_nearest_in_sorted_rows(order, metric):
    """In a descending row, each entry is nearer than all previous ones, so that none can be skipped."""
    position = {
        "descending": torch.arange(1000, 0, -1),
        "ascending": torch.arange(1000),
        "equal": torch.ones(1000),
        "descending with ties": torch.arange(1000, 0, -1) // 7,
    }[order].float()
    if metric == "euclidean":
        query, gallery = torch.zeros(1, 32), torch.zeros(1000, 32)
        gallery[:, 0] = position
    else:
        angle = position / 500
        query, gallery = torch.eye(1, 32), torch.zeros(1000, 32)
        gallery[:, 0], gallery[:, 1] = angle.cos(), angle.sin()
    distance = pairwise_distance(query, gallery, metric).numpy()
    steps = np.diff(distance[0])
    assert (steps >= 0).all() if order == "ascending" else (steps <= 0).all()
    for k in LENGTHS:
        assert_equal(nearest(query, gallery, k, metric), naive(distance, k))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_duplicates_are_listed_in_gallery_order(metric):
    rng = np.random.default_rng(3)
    point = torch.eye(4, 32)
    cluster = rng.integers(0, 4, 500)
    for k in (1, 70, 499):
        actual = nearest(point, point[torch.from_numpy(cluster)], k, metric)
        for i in range(4):
            same, others = np.flatnonzero(cluster == i), np.flatnonzero(cluster != i)
            np.testing.assert_array_equal(actual.indices[i], np.concatenate([same, others])[:k])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("size", [1, 2, COLUMN_CHUNK - 1, COLUMN_CHUNK, COLUMN_CHUNK + 1, 300])
def test_nearest_others_excludes_the_embedding_itself(size, metric, ties):
    embedding = random_embeddings(4, size, ties=ties)
    distance = pairwise_distance(embedding, embedding, metric).numpy()
    for k in (1, 2, 5, COLUMN_CHUNK, size, size + 7):
        actual = nearest_others(embedding, k, metric)
        assert actual.indices.shape == (size, min(k, size - 1))
        assert_equal(actual, naive_others(distance, k))


def test_nearest_others_among_many_duplicates():
    embedding = torch.ones(200, 32)  # most of them are not in their own list
    actual = nearest_others(embedding, 3)
    assert actual.indices[:5].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]
    assert (actual.indices[4:] == [0, 1, 2]).all()


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_1_raises(k):
    with pytest.raises(ValueError, match=f"k={k} "):
        nearest(random_embeddings(1, 3), random_embeddings(2, 3), k)


def test_invalid_options_raise():
    with pytest.raises(ValueError, match=r"metric='l1'.*euclidean, cosine"):
        nearest(random_embeddings(1, 3), random_embeddings(2, 3), 1, "l1")
    for value in (-1, 2.5):
        with pytest.raises(ValueError, match=f"top_k={value} "):
            evaluate(None, None, [0], [0], distance=[[1.0]], top_k=value)


def naive_lists(distance, k, q_pids, g_pids, q_camids, g_camids):
    """The k nearest entries that are neither junk nor at infinite distance, padded with -1 and inf."""
    k = min(k, distance.shape[1])
    indices, distances = np.full((len(distance), k), -1), np.full((len(distance), k), np.inf)
    for i, row in enumerate(distance):
        listed = [
            j
            for j in np.argsort(row, kind="stable")
            if row[j] < np.inf and not (g_pids[j] == q_pids[i] and g_camids[j] == q_camids[i])
        ][:k]
        indices[i, : len(listed)], distances[i, : len(listed)] = listed, row[listed]
    return distances.astype(np.float32), indices


def labels(rng, size):
    """Labels with few identities and cameras, so that there is much junk; the first gallery entry is a match."""
    ids = [rng.integers(0, 3, n) for n in (11, size)] + [rng.integers(0, 2, n) for n in (11, size)]
    ids[0][0], ids[2][0] = ids[1][0], 1 - ids[3][0]
    return ids


DISTANCES = {
    "no ties": lambda rng, shape: rng.permutation(shape[0] * shape[1]).reshape(shape).astype(np.float32),
    "many ties": lambda rng, shape: rng.integers(0, 4, shape).astype(np.float32),
    "negative": lambda rng, shape: rng.normal(size=shape).astype(np.float32),
    "infinite": lambda rng, shape: rng.choice([-np.inf, 0.0, 1.0, np.inf, np.inf], shape).astype(np.float32),
    "descending": lambda _, shape: np.arange(shape[0] * shape[1], 0, -1).reshape(shape).astype(np.float32),
    "float64": lambda rng, shape: 1 + 1e-12 * rng.permutation(shape[0] * shape[1]).reshape(shape),
}


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("size", [1, COLUMN_CHUNK - 1, COLUMN_CHUNK, COLUMN_CHUNK + 1, 1000])
def test_ranked_lists_of_evaluate_exclude_junk(size, name):
    rng = np.random.default_rng(5)
    ids = labels(rng, size)
    distance = DISTANCES[name](rng, (11, size))
    before = distance.copy()
    for k in (1, 5, COLUMN_CHUNK, 2 * size):
        for block_size in (None, 4)[: 1 + (k == 5)]:
            scores = evaluate(None, None, *ids, distance=distance, top_k=k, block_size=block_size)
            assert_equal(scores.nearest, naive_lists(distance, k, *ids))
    np.testing.assert_array_equal(distance, before)


def test_short_lists_are_padded_with_minus_one_and_infinity():
    ids = [1, 2, 9], [1, 1, 1, 2], [0, 0, 0], [0, 0, 1, 0]
    scores = evaluate(None, None, *ids, distance=[[4, 3, 2, 1]] * 2 + [[4, np.inf, np.inf, 1]], top_k=3)
    assert scores.nearest.indices.tolist() == [[3, 2, -1], [2, 1, 0], [3, 0, -1]]
    assert scores.nearest.distance.tolist() == [[1, 2, np.inf], [2, 3, 4], [1, 4, np.inf]]
    assert evaluate(None, None, *ids, distance=np.ones((3, 4))).nearest is None


def test_query_with_only_junk_has_an_empty_list():
    scores = evaluate(None, None, [1, 1], [1, 1], [0, 1], [0, 0], distance=[[1, 2], [2, 1]], top_k=2)
    assert scores.nearest.indices.tolist() == [[-1, -1], [1, 0]]
    assert scores.nearest.distance.tolist() == [[np.inf, np.inf], [1, 2]]


def test_ranking_does_not_modify_distances_of_junk():
    rng = np.random.default_rng(6)
    ids = labels(rng, 200)
    distance = rng.random((11, 200), np.float32)
    tile = HostTile(distance.copy())
    relevance = CrossCamera(ids[1], ids[3])(ids[0], ids[2])
    assert len(relevance.junk)
    tile.rank(relevance, RankingRequest(k=7))
    np.testing.assert_array_equal(tile.finished(), distance)


def test_long_lists_equal_short_lists(monkeypatch):
    rng = np.random.default_rng(20)
    q_pids, g_pids, q_camids, g_camids = (rng.integers(0, 4, n) for n in (9, 300, 9, 300))
    distance = rng.integers(0, 30, (9, 300)).astype(np.float32)
    distance[:, 50:80] = np.inf
    lists = []
    for threshold in (1024, 10):
        monkeypatch.setattr(tiles, "SHORT_LIST", threshold)
        lists.append(evaluate(None, None, q_pids, g_pids, q_camids, g_camids, distance=distance, top_k=290).nearest)
    np.testing.assert_array_equal(lists[0].indices, lists[1].indices)
    np.testing.assert_array_equal(lists[0].distance, lists[1].distance)
    assert (lists[0].indices == -1).any()


INVALID = {
    "no query": (torch.ones(0, 3), torch.ones(3, 3), "query is empty"),
    "no gallery": (torch.ones(3, 3), torch.ones(0, 3), "gallery is empty"),
    "dimensions": (torch.ones(3, 3), torch.ones(3, 4), "query has 3 .*gallery has 4"),
    "NaN": (torch.full((1, 3), torch.nan), torch.ones(3, 3), "query contains 1 of 1 .*NaN"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_embeddings_raise(case):
    query, gallery, message = INVALID[case]
    with pytest.raises(ValueError, match=message):
        nearest(query, gallery, 1)


def test_few_low_dimensional_queries_use_little_memory():
    distances = EmbeddingDistances(torch.zeros(1, 2), torch.rand(20000, 2))
    distances.block(0, 1)
    assert distances._buffer.nbytes <= 64 * 20000 * 4


def test_concurrent_searches_restore_blas_thread_limit():
    def blas_threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    query = torch.rand(70, 64)
    expected, before = nearest(query, query, 3), blas_threads()
    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(lambda _: nearest(query, query, 3), range(100)):
            np.testing.assert_array_equal(actual.indices, expected.indices)
    assert blas_threads() == before


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 7, 400])
def test_nearest_of_all_equals_full_sort(k, ties, monkeypatch):
    monkeypatch.setattr(sys.modules["reidlit.metrics.distance"], "BLOCK_ROWS", 64)
    samples = random_embeddings(21, 333, ties=ties)
    distance = pairwise_distance(samples, samples).numpy()
    indices, largest = nearest_of_all(samples, k)
    np.testing.assert_array_equal(indices, naive(distance, k)[1])
    np.testing.assert_array_equal(largest, distance.max(axis=1))

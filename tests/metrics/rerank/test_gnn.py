import numpy as np
import pytest
import torch

from reidlit.metrics import evaluate
from reidlit.metrics.rerank.gnn import GNNReranking


def embeddings(size, seed, dim=5):
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(seed)) * 3


def naive(query, gallery, k1, k2):
    """Apply the formula to dense matrices in float64."""
    samples = torch.cat([query, gallery]).double().numpy()
    samples /= np.linalg.norm(samples, axis=1, keepdims=True)
    similarity = samples @ samples.T
    order = np.argsort(-similarity.round(12), axis=1, kind="stable")  # rounded, so that duplicates tie exactly
    size = len(samples)
    graph = np.zeros((size, size))
    for i in range(size):
        for j in order[i, :k1]:
            graph[i, j] = 1
    if k2 != 1:
        for _ in range(2):
            both = graph + graph.T
            for i in range(size):
                graph[i] = sum(similarity[i, j] ** 2 * both[j] for j in order[i, :k2])
                graph[i] /= np.linalg.norm(graph[i])
    graph /= np.linalg.norm(graph, axis=1, keepdims=True)
    return 1 - graph[: len(query)] @ graph[len(query) :].T


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (2, 1), (6, 1), (2, 2), (6, 3), (21, 4), (100, 7), (100, 100)])
def test_distances_equal_naive_formula(k1, k2):
    query, gallery = embeddings(8, seed=1), embeddings(13, seed=2)
    before = query.clone(), gallery.clone()
    distances = GNNReranking(k1, k2)(query, gallery)
    assert distances.shape == (8, 13)
    block = distances.block(0, 8).finished()
    assert block.dtype == np.float32
    assert block.flags.c_contiguous
    np.testing.assert_allclose(block, naive(query, gallery, k1, k2), atol=2e-6)
    assert torch.equal(query, before[0])
    assert torch.equal(gallery, before[1])


def test_blocks_equal_rows_of_the_matrix():
    distances = GNNReranking(6, 3)(embeddings(8, seed=1), embeddings(13, seed=2))
    matrix = distances.block(0, 8).finished()
    np.testing.assert_array_equal(
        np.concatenate([distances.block(0, 3).finished(), distances.block(3, 8).finished()]), matrix
    )
    assert distances.block(4, 4).finished().shape == (0, 13)


def test_duplicates_are_neighbors_in_sample_order():
    query, gallery = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[1.0, 0]] * 3 + [[0.0, 1]] * 2)
    block = GNNReranking(2, 2)(query, gallery).block(0, 2).finished()
    np.testing.assert_allclose(block, naive(query, gallery, 2, 2), atol=1e-6)


def test_zero_embeddings_have_distance_1_to_all():
    query, gallery = embeddings(3, seed=1), embeddings(4, seed=2)
    query[1] = 0
    block = GNNReranking(3, 2)(query, gallery).block(0, 3).finished()
    assert (block[1] == 1).all()
    assert np.isfinite(block).all()


def test_improves_the_mAP_of_clusters():  # noqa: N802
    rng = np.random.default_rng(0)
    pids = np.arange(240) % 20
    samples = torch.from_numpy(rng.normal(size=(20, 32))[pids] + 1.2 * rng.normal(size=(240, 32)))
    ids = pids[:40], pids[40:]
    before = evaluate(samples[:40], samples[40:], *ids, metric="cosine").mAP
    distance = GNNReranking(12, 4)(samples[:40], samples[40:]).block(0, 40).finished()
    after = evaluate(None, None, *ids, distance=distance).mAP
    assert before < 0.8
    assert after > before + 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": 0, "k2": 0}, "k1=0"),
        ({"k2": 0}, "k2=0"),
        ({"k1": 5, "k2": 6}, "k2=6 .*k1=5"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        GNNReranking(**options)

import numpy as np
import pytest
import torch

from reidlit.metrics import evaluate
from reidlit.metrics.rerank.expansion import QueryExpansion


def embeddings(size, seed, dim=6):
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(seed)) * 3


def unit(x):
    length = np.linalg.norm(x)
    return x / length if length else x


def naive(query, gallery, k, alpha, same=False):
    """Apply the definition to one embedding and one neighbor at a time, in float64."""
    query, gallery = ([unit(x) for x in embedding.double().numpy()] for embedding in (query, gallery))
    result = []
    for i, q in enumerate(query):
        others = [j for j in range(len(gallery)) if not (same and j == i)]
        others.sort(key=lambda j: (-(q @ gallery[j]), j))
        total = q.copy()
        for j in others[:k]:
            total += max(q @ gallery[j], 0) ** alpha * gallery[j]
        result.append(unit(total))
    return np.array(result)


def units(embedding):
    return np.array([unit(x) for x in embedding.double().numpy()])


@pytest.mark.parametrize("alpha", [0, 0.5, 3])
@pytest.mark.parametrize("k", [1, 4, 11, 12, 50])
@pytest.mark.parametrize("expand_gallery", [False, True])
def test_result_equals_naive_loop(k, alpha, expand_gallery):
    query, gallery = embeddings(7, seed=1), embeddings(12, seed=2)
    before = query.clone(), gallery.clone()
    new_query, new_gallery = QueryExpansion(k, alpha, expand_gallery)(query, gallery)
    expected = naive(gallery, gallery, k, alpha, same=True) if expand_gallery else units(gallery)
    assert new_query.dtype == new_gallery.dtype == torch.float32
    np.testing.assert_allclose(new_query.numpy(), naive(query, gallery, k, alpha), atol=2e-6)
    np.testing.assert_allclose(new_gallery.numpy(), expected, atol=2e-6)
    assert torch.equal(query, before[0])
    assert torch.equal(gallery, before[1])


def test_hand_computed_query():
    query, gallery = torch.tensor([[2.0, 0]]), torch.tensor([[0.0, 5], [3, 4], [-1, 0]])
    expected = torch.tensor([[1 + 0.6**2 * 0.6, 0.6**2 * 0.8]])  # (3, 4) has cosine 0.6, and (0, 5) has weight 0
    new_query, _ = QueryExpansion(k=2, alpha=2)(query, gallery)
    torch.testing.assert_close(new_query, expected / expected.norm())


def test_only_alpha_0_includes_neighbors_with_negative_similarity():
    query, gallery = torch.tensor([[1.0, 0]]), torch.tensor([[-0.6, 0.8]])
    torch.testing.assert_close(QueryExpansion(1, 0)(query, gallery)[0], torch.tensor([[0.4, 0.8]]) / 0.8**0.5)
    torch.testing.assert_close(QueryExpansion(1, 1)(query, gallery)[0], query)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_duplicate_gallery_embeddings_do_not_expand_themselves(k):
    # The last duplicate is missing from its own list of k + 1 neighbors, and the first comes first in its own list.
    gallery = torch.tensor([[1.0, 0]] * 4 + [[0.0, 1]])
    _, new_gallery = QueryExpansion(k, expand_gallery=True)(gallery, gallery)
    np.testing.assert_allclose(new_gallery.numpy(), naive(gallery, gallery, k, 0, same=True), atol=1e-6)


def test_gallery_with_one_entry_is_only_normalized():
    gallery = torch.tensor([[3.0, 4]])
    _, new_gallery = QueryExpansion(expand_gallery=True)(embeddings(3, 0, dim=2), gallery)
    torch.testing.assert_close(new_gallery, gallery / 5)


def test_zero_embeddings_stay_zero():
    query, gallery = torch.zeros(2, 3), torch.zeros(4, 3)
    for embedding in QueryExpansion(alpha=1, expand_gallery=True)(query, gallery):
        assert not embedding.any()


@pytest.mark.parametrize("expand_gallery", [False, True])
@pytest.mark.parametrize("alpha", [0, 1])
def test_improves_the_mAP_of_clusters(alpha, expand_gallery):  # noqa: N802
    rng = np.random.default_rng(0)
    pids = np.arange(240) % 20
    samples = torch.from_numpy(rng.normal(size=(20, 32))[pids] + 1.2 * rng.normal(size=(240, 32)))
    ids = pids[:40], pids[40:]
    before = evaluate(samples[:40], samples[40:], *ids, metric="cosine").mAP
    query, gallery = QueryExpansion(3, alpha, expand_gallery)(samples[:40], samples[40:])
    after = evaluate(query, gallery, *ids, metric="cosine").mAP
    assert before < 0.8
    assert after > before + 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"alpha": -1}, "alpha=-1"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"alpha": float("inf")}, "alpha=inf"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        QueryExpansion(**options)

import numpy as np
import pytest
import torch

from reidlit.metrics import evaluate
from reidlit.metrics.rerank.centralisation import NeighbourCentralisation


def embeddings(size, seed, dim=5):
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(seed))


def naive(samples, k1, k2):
    """Apply the definition with lists of neighbors in float64."""
    samples = samples.double().numpy()
    neighbors = []
    for i, x in enumerate(samples):
        others = [j for j in range(len(samples)) if j != i]
        neighbors.append(sorted(others, key=lambda j: (((x - samples[j]) ** 2).sum(), j)))
    result = samples.copy()
    for i in range(len(samples)):
        for j in neighbors[i][:k1]:
            if i in neighbors[j][:k2]:
                result[i] += samples[j]
    return result


@pytest.mark.parametrize("k1", [1, 2, 5, 15, 50])
@pytest.mark.parametrize("k2", [1, 2, 7, 50])
def test_result_equals_naive_loop(k1, k2):
    query, gallery = embeddings(5, seed=1), embeddings(11, seed=2)
    before = query.clone(), gallery.clone()
    new_query, new_gallery = NeighbourCentralisation(k1, k2)(query, gallery)
    expected = naive(torch.cat([query, gallery]), k1, k2)
    assert new_query.dtype == new_gallery.dtype == torch.float32
    np.testing.assert_allclose(new_query.numpy(), expected[:5], atol=1e-5)
    np.testing.assert_allclose(new_gallery.numpy(), expected[5:], atol=1e-5)
    assert torch.equal(query, before[0])
    assert torch.equal(gallery, before[1])


def test_larger_k2_keeps_the_k1_nearest_neighbors():
    samples = embeddings(60, seed=3)
    centralised = NeighbourCentralisation(3, 40)(samples[:20], samples[20:])
    np.testing.assert_allclose(torch.cat(centralised).numpy(), naive(samples, 3, 40), atol=1e-5)


def test_hand_computed_samples_on_a_line():
    # Nearest neighbors: 0 -> 1, 1 -> 0, 3 -> 1, 7 -> 3. Only 0 and 1 are mutual neighbors.
    query, gallery = torch.tensor([[0.0], [3]]), torch.tensor([[1.0], [7]])
    new_query, new_gallery = NeighbourCentralisation(1, 1)(query, gallery)
    assert new_query.tolist() == [[1], [3]]
    assert new_gallery.tolist() == [[1], [7]]
    # 3 is the second neighbor of 1, its nearest neighbor. 7 is only the third neighbor of 3, its nearest neighbor.
    new_query, new_gallery = NeighbourCentralisation(1, 2)(query, gallery)
    assert new_query.tolist() == [[1], [4]]
    assert new_gallery.tolist() == [[1], [7]]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_duplicates_are_not_their_own_neighbors(k):
    samples = torch.tensor([[1.0, 0]] * 4 + [[0.0, 1]] * 2)
    centralised = NeighbourCentralisation(k, k)(samples[:2], samples[2:])
    np.testing.assert_allclose(torch.cat(centralised).numpy(), naive(samples, k, k), atol=1e-6)


def test_improves_the_mAP_of_clusters():  # noqa: N802
    rng = np.random.default_rng(0)
    pids = np.arange(240) % 20
    samples = torch.from_numpy(rng.normal(size=(20, 32))[pids] + 1.2 * rng.normal(size=(240, 32)))
    ids = pids[:40], pids[40:]
    before = evaluate(samples[:40], samples[40:], *ids, metric="cosine").mAP
    after = evaluate(*NeighbourCentralisation()(samples[:40], samples[40:]), *ids, metric="cosine").mAP
    assert before < 0.8
    assert after > before + 0.03


@pytest.mark.parametrize(("options", "message"), [({"k1": 0}, "k1=0"), ({"k2": -3}, "k2=-3")])
def test_invalid_options_raise(options, message):
    with pytest.raises(ValueError, match=message):
        NeighbourCentralisation(**options)

"""The first entries of a ranking."""

import pytest
import torch

from reidlit.metrics.top_k import top_k


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("normalize", [False, True])
def test_nearest_first(metric, normalize):
    torch.manual_seed(0)
    query, gallery = torch.randn(4, 8), torch.randn(30, 8)
    a, b = (torch.nn.functional.normalize(x) if normalize or metric == "cosine" else x for x in (query, gallery))
    expected = 1 - a @ b.T if metric == "cosine" else torch.cdist(a, b)
    distance, index = top_k(query, gallery, 5, metric=metric, normalize=normalize)
    values, order = expected.sort(dim=1, stable=True)
    assert torch.equal(index, order[:, :5])
    torch.testing.assert_close(distance, values[:, :5], rtol=1e-4, atol=1e-4)


def test_junk_comes_last_and_k_may_exceed_the_gallery():
    query, gallery = torch.zeros(1, 2), torch.tensor([[1.0, 0], [2.0, 0], [3.0, 0]])
    distance, index = top_k(query, gallery, 9, junk=torch.tensor([[True, False, False]]))
    assert index.tolist() == [[1, 2, 0]]
    assert distance.tolist() == [[2.0, 3.0, float("inf")]]

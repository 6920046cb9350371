import numpy as np
import pytest
import torch

from reidlit.metrics import evaluate, pairwise_distance


def embeddings(size, dim=32, seed=0, dtype=torch.float32):
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distance_equals_formula_in_float32(metric, dtype):
    query, gallery = embeddings(5, seed=1, dtype=dtype), embeddings(7, seed=2, dtype=dtype)
    q, g = query.double().numpy(), gallery.double().numpy()
    if metric == "euclidean":
        expected = ((q[:, None] - g[None]) ** 2).sum(-1)
    else:
        expected = 1 - (q @ g.T) / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(g, axis=1)
    distance = pairwise_distance(query, gallery, metric)
    assert distance.dtype == torch.float32
    np.testing.assert_allclose(distance.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distance_is_bitwise_equal_to_torchreid(metric):
    torchreid = pytest.importorskip("torchreid.reid.metrics")
    query, gallery = embeddings(20, seed=1), embeddings(30, seed=2)
    assert torch.equal(
        pairwise_distance(query, gallery, metric), torchreid.compute_distance_matrix(query, gallery, metric)
    )


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distance_ignores_autocast_and_matmul_precision(metric):
    query, gallery = embeddings(64, 512, seed=1), embeddings(300, 512, seed=2)
    expected = pairwise_distance(query, gallery, metric)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            distance = pairwise_distance(query, gallery, metric)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(distance, expected)


def test_inputs_are_not_modified_and_result_has_no_gradient():
    query = embeddings(4).requires_grad_()
    copy = query.detach().clone()
    assert not pairwise_distance(query, query, "cosine").requires_grad
    assert torch.equal(query, copy)


def test_unknown_metric_raises():
    with pytest.raises(ValueError, match=r"metric='manhattan'.*euclidean, cosine"):
        pairwise_distance(embeddings(2), embeddings(2), "manhattan")


@pytest.mark.parametrize(("query", "gallery"), [((2, 3), (4, 5)), ((3,), (4, 3)), ((2, 3), (1, 4, 3))])
def test_invalid_shapes_raise(query, gallery):
    with pytest.raises(ValueError, match=r"query.*gallery"):
        pairwise_distance(torch.zeros(query), torch.zeros(gallery))


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_common_offset_does_not_change_the_ranking(offset):
    rng = np.random.default_rng(0)
    # Multiples of 1/64 stay exact in float32 after the offset is added.
    query, gallery = (np.round(rng.standard_normal((size, 64)) * 64) / 64 for size in (20, 200))
    exact = np.square(query[:, None] - gallery[None]).sum(2)
    shifted = [torch.from_numpy(part + offset).float() for part in (query, gallery)]
    assert np.abs(pairwise_distance(*shifted).numpy() - exact).max() < 1e-3
    pids, g_pids = rng.integers(0, 10, 20), rng.integers(0, 10, 200)
    expected = evaluate(query, gallery, pids, g_pids)
    assert evaluate(*shifted, pids, g_pids).mAP == pytest.approx(expected.mAP, abs=1e-9)

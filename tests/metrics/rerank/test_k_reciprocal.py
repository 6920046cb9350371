"""k-reciprocal re-ranking against the formula of the paper and Torchreid, as a matrix and in blocks."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from reidlit.metrics import KReciprocal, QueryExpansion, evaluate, rerank
from reidlit.metrics.distance import iter_tiles

NUM_QUERIES = 12


def naive(query, gallery, k1, k2, lambda_value, exponent):
    """Apply the formula of the paper to dense matrices in float64; equal distances are ranked by index."""
    x = np.concatenate([query, gallery]).astype(np.float64)
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    rank = np.argsort(squared, axis=1, kind="stable")
    original = squared ** (exponent / 2)
    original = original / original.max(axis=1, keepdims=True)

    def reciprocal_sets(k):
        forward = [set(row[: k + 1].tolist()) for row in rank]
        return [{j for j in neighbors if i in forward[j]} for i, neighbors in enumerate(forward)]

    cores, halves = reciprocal_sets(k1), reciprocal_sets(round(k1 / 2))  # Python rounds half to even
    codes = np.zeros_like(squared)
    for i in range(len(x)):
        members = set(cores[i])
        for candidate in cores[i]:
            if len(halves[candidate] & cores[i]) > 2 * len(halves[candidate]) / 3:
                members |= halves[candidate]
        members = sorted(members)
        weights = np.exp(-original[i, members])
        codes[i, members] = weights / weights.sum()  # empty if duplicates displace i from its own list
    if k2 > 1:  # with 1, codes are not replaced by those of a preceding duplicate
        codes = np.array([codes[rank[i, :k2]].mean(axis=0) for i in range(len(x))])

    jaccard = np.empty_like(squared)
    for i in range(len(x)):
        shared = np.minimum(codes[i], codes).sum(axis=1)
        jaccard[i] = 1 - shared / (2 - shared)  # each code sums to 1, so the larger weights sum to 2 - shared
    blended = lambda_value * original + (1 - lambda_value) * jaccard
    return blended[: len(query), len(query) :]


def clustered(seed, size=48, people=6, dim=8):
    """Return clustered query and gallery embeddings of any length, their pids and their camids."""
    rng = np.random.default_rng(seed)
    pids = np.arange(size) % people
    embedding = (rng.normal(size=(people, dim))[pids] + rng.normal(scale=0.6, size=(size, dim))).astype(np.float32)
    camids = rng.integers(0, 3, size)
    split = (slice(NUM_QUERIES), slice(NUM_QUERIES, None))
    return [values[rows] for values in (embedding, pids, camids) for rows in split]


def assert_identical(a, b):
    for name in ("cmc", "mAP", "mINP", "ap", "inp", "first_match", "num_matches"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


PARAMETERS = [
    # k1, k2, lambda_value, exponent
    (20, 6, 0.3, 2),
    (20, 6, 0.3, 4),
    (8, 6, 0.3, 3),
    (5, 3, 0.3, 2),  # 2.5 is rounded to 2
    (7, 3, 0.3, 2),  # 3.5 is rounded to 4
    (3, 2, 0.5, 1),
    (1, 1, 0.3, 2),
    (6, 1, 0.3, 4),  # codes are not averaged
    (4, 5, 0.3, 2),
    (4, 11, 0.3, 4),  # k2 greater than k1
    (5, 1000, 0.3, 2),
    (47, 6, 0.3, 2),  # every sample is a neighbor
    (48, 6, 0.3, 3),
    (60, 6, 0.3, 2),
    (1000, 1000, 0.3, 4),
    (6, 3, 0.0, 2),
    (6, 3, 1.0, 3),
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_distances_equal_paper_formula(parameters):
    query, gallery, *_ = clustered(0)
    distance = rerank(query, gallery, *parameters)
    assert distance.shape == (len(query), len(gallery))
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance, naive(query, gallery, *parameters), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_tiny_sets_equal_paper_formula(seed):
    rng = np.random.default_rng(seed)
    query, gallery = (rng.normal(size=(rng.integers(1, 5), 3)).astype(np.float32) for _ in range(2))
    for parameters in ((20, 6, 0.3, 2), (1, 1, 0.3, 4), (2, 2, 0.3, 3), (3, 1, 0.3, 2)):
        np.testing.assert_allclose(
            rerank(query, gallery, *parameters), naive(query, gallery, *parameters), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("parameters", [(20, 6, 0.3, 2), (5, 3, 0.3, 4), (4, 11, 0.3, 3), (7, 1, 0.3, 2)], ids=str)
def test_duplicates_are_neighbors_in_sample_order(parameters):
    rng = np.random.default_rng(1)
    query, gallery = (rng.integers(-1, 2, (size, 3)) for size in (15, 40))  # 27 distinct points; exact in float32
    np.testing.assert_allclose(
        rerank(query, gallery, *parameters), naive(query, gallery, *parameters), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("exponent", [1, 2, 3, 4])
def test_equal_embeddings_give_finite_distances(exponent):
    for seed in range(5):  # their distances are rounded to slightly above or below 0
        rng = np.random.default_rng(seed)
        embedding = np.repeat(rng.normal(size=(1, rng.integers(2, 200))), 12, axis=0)
        assert np.isfinite(rerank(embedding[:4], embedding[4:], k1=4, k2=2, exponent=exponent)).all()


@pytest.mark.parametrize("exponent", [2, 3, 4])
@pytest.mark.parametrize("scale", [2.0**-40, 2.0**-10, 2.0**10, 2.0**40])
def test_scale_of_embeddings_does_not_change_distances(scale, exponent):
    query, gallery, *_ = clustered(2)
    expected = rerank(query, gallery, k1=8, exponent=exponent)
    np.testing.assert_allclose(
        rerank(query * scale, gallery * scale, k1=8, exponent=exponent), expected, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("parameters", [(20, 6, 0.3), (7, 3, 0.5), (5, 1, 0.3), (4, 11, 0.1)], ids=str)
def test_exponent_4_equals_torchreid(parameters, normalize):
    torchreid = pytest.importorskip("torchreid.reid.utils.rerank")
    query, gallery, *_ = clustered(3, size=90)
    if normalize:
        query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    q_g, q_q, g_g = (
        ((a[:, None] - b[None]) ** 2).sum(-1) for a, b in ((query, gallery), (query, query), (gallery, gallery))
    )
    expected = torchreid.re_ranking(q_g, q_q, g_g, *parameters)
    np.testing.assert_allclose(rerank(query, gallery, *parameters, exponent=4), expected, rtol=0, atol=1e-5)
    assert np.abs(rerank(query, gallery, *parameters, exponent=2) - expected).max() > 1e-3


OPTIONS = [
    {},
    {"k1": 7, "k2": 3, "lambda_value": 0.5, "exponent": 4},
    {"k1": 5, "k2": 1, "lambda_value": 0.0},
    {"k1": 4, "k2": 9, "exponent": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_streamed_distances_equal_matrix_for_any_block_size(options):
    query, gallery, *ids = clustered(4, size=90)
    matrix = rerank(query, gallery, **options)
    expected = evaluate(None, None, *ids, distance=matrix, top_k=9)
    for block_size in (None, 1, 7):
        scores = evaluate(query, gallery, *ids, postprocess=[KReciprocal(**options)], block_size=block_size, top_k=9)
        assert_identical(scores, expected)
        np.testing.assert_array_equal(scores.nearest.indices, expected.nearest.indices)
        np.testing.assert_array_equal(scores.nearest.distance, expected.nearest.distance)
    distances = KReciprocal(**options)(torch.from_numpy(query), torch.from_numpy(gallery))
    assert distances.shape == matrix.shape
    for start, stop, block in iter_tiles(distances, size=7):
        np.testing.assert_array_equal(block.finished(), matrix[start:stop])


FORMS = {
    "numpy float16": lambda x: x.astype(np.float16),
    "numpy float64": lambda x: x.astype(np.float64),
    "numpy int": lambda x: x.astype(int),
    "list": lambda x: x.tolist(),
    "fortran": np.asfortranarray,
    "torch": torch.from_numpy,
    "torch float16": lambda x: torch.from_numpy(x).half(),
    "torch bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "torch float64": lambda x: torch.from_numpy(x).double(),
    "torch with gradient": lambda x: torch.from_numpy(x).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_dtype_does_not_change_distances_and_inputs_are_not_modified(form):
    query, gallery, *ids = clustered(5)
    query, gallery = (np.round(4 * x) for x in (query, gallery))  # exact in every type
    copies = FORMS[form](query.copy()), FORMS[form](gallery.copy())
    expected = rerank(query, gallery, k1=8)
    np.testing.assert_array_equal(rerank(*copies, k1=8), expected)
    step = KReciprocal(k1=8)
    assert_identical(evaluate(*copies, *ids, postprocess=[step]), evaluate(query, gallery, *ids, postprocess=[step]))
    for copy, original in zip(copies, (query, gallery), strict=True):
        values = copy.detach().double().numpy() if isinstance(copy, torch.Tensor) else np.asarray(copy)
        np.testing.assert_array_equal(values, original)


def test_reranking_improves_map_of_elongated_clusters():
    rng = np.random.default_rng(6)
    pids = np.arange(240) % 4
    along = rng.uniform(0, 8, 240)
    embedding = np.stack([along, 1.0 * pids], axis=1) + rng.normal(scale=0.1, size=(240, 2))
    ids = pids[:20], pids[20:]
    before = evaluate(embedding[:20], embedding[20:], *ids)
    after = evaluate(embedding[:20], embedding[20:], *ids, postprocess=[KReciprocal()])
    assert after.mAP > before.mAP + 0.05


def test_cosine_metric_reranks_unit_length_embeddings():
    query, gallery, *ids = (torch.from_numpy(values) for values in clustered(7))
    query, gallery = (x * torch.linspace(0.2, 3, len(x))[:, None] for x in (query, gallery))
    step = KReciprocal(k1=8)
    unit = functional.normalize(query), functional.normalize(gallery)
    expected = evaluate(None, None, *ids, distance=rerank(*unit, k1=8))
    assert_identical(evaluate(query, gallery, *ids, metric="cosine", postprocess=[step]), expected)
    assert_identical(evaluate(query, gallery, *ids, normalize=True, postprocess=[step]), expected)
    assert evaluate(query, gallery, *ids, postprocess=[step]).mAP != expected.mAP


def test_reranking_must_be_the_last_step():
    query, gallery, *ids = clustered(8)
    expansion, step = QueryExpansion(k=3), KReciprocal(k1=8)
    expanded = expansion(torch.from_numpy(query), torch.from_numpy(gallery))
    expected = evaluate(None, None, *ids, distance=rerank(*expanded, k1=8))
    assert_identical(evaluate(query, gallery, *ids, postprocess=[expansion, step]), expected)
    for last in (expansion, step):
        with pytest.raises(ValueError, match=type(last).__name__):
            evaluate(query, gallery, *ids, postprocess=[step, last])


def test_reranking_does_not_support_centroids_or_distance_matrix():
    query, gallery, *ids = clustered(9)
    with pytest.raises(ValueError, match="protocol='centroid'"):
        evaluate(query, gallery, *ids, postprocess=[KReciprocal()], protocol="centroid")
    with pytest.raises(ValueError, match=r"postprocess=.*KReciprocal.*distance"):
        evaluate(None, None, *ids, postprocess=[KReciprocal()], distance=np.ones((len(query), len(gallery))))


INVALID_PARAMETERS = {
    "k1 zero": ({"k1": 0}, "k1=0"),
    "k1 negative": ({"k1": -3}, "k1=-3"),
    "k1 float": ({"k1": 2.5}, r"k1=2\.5"),
    "k2 zero": ({"k2": 0}, "k2=0"),
    "k2 text": ({"k2": "6"}, "k2='6'"),
    "lambda below": ({"lambda_value": -0.1}, r"lambda_value=-0\.1"),
    "lambda above": ({"lambda_value": 1.5}, r"lambda_value=1\.5"),
    "lambda NaN": ({"lambda_value": float("nan")}, "lambda_value=nan"),
    "exponent zero": ({"exponent": 0}, "exponent=0"),
    "exponent negative": ({"exponent": -2}, "exponent=-2"),
    "exponent NaN": ({"exponent": float("nan")}, "exponent=nan"),
    "exponent infinite": ({"exponent": float("inf")}, "exponent=inf"),
}


@pytest.mark.parametrize("case", INVALID_PARAMETERS)
def test_invalid_parameters_raise(case):
    changes, message = INVALID_PARAMETERS[case]
    for call in (KReciprocal, lambda **options: rerank(np.eye(3), np.eye(3), **options)):
        with pytest.raises(ValueError, match=message):
            call(**changes)


EYE = np.eye(3)
INVALID_EMBEDDINGS = {
    "query None": (None, EYE, "query.*None"),
    "query 1-D": (np.ones(3), EYE, r"query.*\(3,\)"),
    "query empty": (np.ones((0, 3)), EYE, r"query.*\(0, 3\)"),
    "gallery empty": (EYE, torch.ones(0, 3), r"gallery.*\(0, 3\)"),
    "dimensions": (EYE, np.ones((3, 4)), "query has 3 .*gallery has 4"),
    "NaN": (EYE, np.diag([1, np.nan, 1]), "gallery contains 1 of 3 .*row 1"),
    "infinite": (torch.diag(torch.tensor([1, 1, torch.inf])), EYE, "query contains 1 of 3 .*row 2"),
    "text": (np.full((3, 3), "a"), EYE, "query.*<U1"),
}


@pytest.mark.parametrize("case", INVALID_EMBEDDINGS)
def test_invalid_embeddings_raise(case):
    query, gallery, message = INVALID_EMBEDDINGS[case]
    with pytest.raises(ValueError, match=message):
        rerank(query, gallery)

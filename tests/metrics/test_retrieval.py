import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import torch

import reidlit.metrics.distance
from reidlit.metrics import Scores, evaluate, pairwise_distance
from reidlit.metrics._ranking import row_kernels
from reidlit.metrics._ranking.numba_cache import jit
from reidlit.metrics.distance import EmbeddingDistances, MatrixDistances, iter_tiles


def naive(distance, q_pids, g_pids, q_camids=None, g_camids=None, max_rank=50):
    """Scores by definition, in loops over a full stable sort."""
    ap, inp, first_match, num_matches = [], [], [], []
    for i, row in enumerate(distance):
        hits = []
        for j in np.argsort(row, kind="stable"):
            same = g_pids[j] == q_pids[i]
            if same and q_camids is not None and g_camids[j] == q_camids[i]:
                continue
            hits.append(same)
        ranks = [rank for rank, hit in enumerate(hits, start=1) if hit]
        ap.append(np.mean([(k + 1) / rank for k, rank in enumerate(ranks)]) if ranks else np.nan)
        inp.append(len(ranks) / ranks[-1] if ranks else np.nan)
        first_match.append(ranks[0] if ranks else 0)
        num_matches.append(len(ranks))
    valid = [rank for rank in first_match if rank]
    cmc = [np.mean([rank <= k for rank in valid]) for k in range(1, max_rank + 1)]
    return {
        "cmc": cmc,
        "mAP": np.nanmean(ap),
        "mINP": np.nanmean(inp),
        "num_valid": len(valid),
        "num_queries": len(distance),
        "num_no_match": len(distance) - len(valid),
        "ap": ap,
        "inp": inp,
        "first_match": first_match,
        "num_matches": num_matches,
    }


def assert_scores(scores, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(scores, name), value, rtol=1e-12, atol=0, err_msg=name)


def assert_identical(a, b):
    for name in Scores._fields:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def labels(rng, num_query=40, num_gallery=200, pids=12, cameras=3):
    sizes = (num_query, num_gallery, num_query, num_gallery)
    return [rng.integers(0, high, size) for high, size in zip((pids, pids, cameras, cameras), sizes, strict=True)]


DISTANCES = {
    "no ties": lambda rng, shape: rng.permutation(shape[0] * shape[1]).reshape(shape).astype(float),
    "many ties": lambda rng, shape: rng.integers(0, 4, shape).astype(float),
    "all equal": lambda _, shape: np.ones(shape),
    "negative": lambda rng, shape: rng.normal(size=shape).round(1),
    "signed zeros": lambda rng, shape: rng.choice([-0.0, 0.0, 1.0], shape),
    "infinite": lambda rng, shape: rng.choice([-np.inf, 0.0, 1.0, np.inf], shape),
}


@pytest.mark.parametrize("many_matches", [False, True])
@pytest.mark.parametrize("name", DISTANCES)
def test_distance_matrix_equals_naive_loop(name, many_matches):
    rng = np.random.default_rng(1)
    ids = labels(rng, num_gallery=900, pids=2) if many_matches else labels(rng)
    distance = DISTANCES[name](rng, (len(ids[0]), len(ids[1])))
    scores = evaluate(None, None, *ids, distance=distance)
    assert_scores(scores, naive(distance, *ids))


@pytest.mark.parametrize("seed", range(20))
def test_tiny_sets_equal_naive_loop(seed):
    rng = np.random.default_rng(seed)
    num_query, num_gallery = rng.integers(1, 6, 2)
    ids = labels(rng, num_query, num_gallery, pids=3, cameras=2)
    ids[0][0], ids[2][0] = ids[1][0], ids[3][0] + 1  # at least one match
    distance = rng.integers(0, 3, (num_query, num_gallery)).astype(np.float32)
    assert_scores(evaluate(None, None, *ids, distance=distance), naive(distance, *ids))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("normalize", [False, True])
def test_embeddings_are_ranked_by_distance(metric, normalize):
    rng = np.random.default_rng(2)
    ids = labels(rng)
    query, gallery = (torch.from_numpy(rng.normal(size=(len(x), 16)).astype(np.float32)) for x in ids[:2])
    scores = evaluate(query, gallery, *ids, metric=metric, normalize=normalize)
    if normalize:
        query, gallery = (torch.nn.functional.normalize(x) for x in (query, gallery))
    assert_scores(scores, naive(pairwise_distance(query, gallery, metric).numpy(), *ids))
    scale = torch.linspace(1, 9, len(gallery))[:, None]
    scaled = evaluate(query, gallery * scale, *ids, metric=metric, normalize=normalize)
    assert (scaled.mAP == pytest.approx(scores.mAP)) == (normalize or metric == "cosine")


def test_duplicate_embeddings_are_ranked_in_gallery_order():
    rng = np.random.default_rng(3)
    ids = labels(rng)
    query, gallery = (rng.integers(-2, 3, (len(x), 2)) for x in ids[:2])  # few distinct points; exact in float32
    distance = ((query[:, None] - gallery[None]) ** 2).sum(-1)
    scores = evaluate(query, gallery, *ids)
    assert_scores(scores, naive(distance, *ids))
    reversed_scores = evaluate(query, gallery[::-1], ids[0], ids[1][::-1], ids[2], ids[3][::-1])
    assert reversed_scores.mAP != scores.mAP


FORMS = {
    "float16": lambda x: x.astype(np.float16),
    "float64": lambda x: x.astype(np.float64),
    "int": lambda x: x.astype(int),
    "list": lambda x: x.tolist(),
    "big endian": lambda x: x.astype(">f4"),
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "torch": torch.from_numpy,
    "torch float16": lambda x: torch.from_numpy(x).half(),
    "torch bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "torch float64": lambda x: torch.from_numpy(x).double(),
    "torch transposed": lambda x: torch.from_numpy(x.T.copy()).T,
    "torch with gradient": lambda x: torch.from_numpy(x).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_dtype_and_memory_layout_do_not_change_scores(form):
    rng = np.random.default_rng(4)
    ids = labels(rng)
    query, gallery = (rng.integers(-3, 4, (len(x), 4)).astype(np.float32) for x in ids[:2])  # exact in every type
    expected = evaluate(query, gallery, *ids)
    assert_identical(evaluate(FORMS[form](query), FORMS[form](gallery), *ids), expected)
    distance = ((query[:, None] - gallery[None]) ** 2).sum(-1)
    assert_identical(evaluate(None, None, *ids, distance=FORMS[form](distance)), expected)


def test_labels_may_be_tensors_lists_or_strided_arrays_of_any_integers():
    rng = np.random.default_rng(5)
    ids = labels(rng)
    distance = rng.random((len(ids[0]), len(ids[1])))
    expected = evaluate(None, None, *ids, distance=distance)
    for form in (torch.from_numpy, np.ndarray.tolist, lambda x: np.repeat(x, 2)[::2], lambda x: x.astype(np.uint8)):
        assert_identical(evaluate(None, None, *map(form, ids), distance=distance), expected)
    sparse_ids = [1000 - 77 * ids[0], 1000 - 77 * ids[1], ids[2], ids[3]]
    assert_identical(evaluate(None, None, *sparse_ids, distance=distance), expected)


def test_read_only_arrays_and_memory_maps_are_accepted(tmp_path):
    rng = np.random.default_rng(6)
    ids = labels(rng)
    distance = rng.random((len(ids[0]), len(ids[1])))
    np.save(tmp_path / "distance.npy", distance)
    expected = evaluate(None, None, *ids, distance=distance)
    assert_identical(evaluate(None, None, *ids, distance=np.load(tmp_path / "distance.npy", mmap_mode="r")), expected)
    query = rng.random((len(ids[0]), 4), dtype=np.float32)
    gallery = rng.random((len(ids[1]), 4), dtype=np.float32)
    expected = evaluate(query, gallery, *ids)
    query.flags.writeable = gallery.flags.writeable = False
    assert_identical(evaluate(query, gallery, *ids), expected)


def test_float64_distances_keep_their_order():
    distance = np.array([[1.0, 1.0 - 1e-12]])
    assert evaluate(None, None, [1], [0, 1], distance=distance).first_match.tolist() == [1]
    assert evaluate(None, None, [1], [0, 1], distance=distance.astype(np.float32)).first_match.tolist() == [2]


@pytest.mark.parametrize("block_size", [1, 7, 39, 40, 1000])
def test_block_size_does_not_change_scores(block_size):
    rng = np.random.default_rng(7)
    ids = labels(rng)
    query, gallery = (rng.integers(-3, 4, (len(x), 8)) for x in ids[:2])
    expected = evaluate(query, gallery, *ids)
    assert_identical(evaluate(query, gallery, *ids, block_size=block_size), expected)
    distance = rng.integers(0, 9, (len(ids[0]), len(ids[1]))).astype(np.float32)
    expected = evaluate(None, None, *ids, distance=distance)
    assert_identical(evaluate(None, None, *ids, distance=distance, block_size=block_size), expected)


def test_default_block_size_is_balanced_and_limited_by_memory(monkeypatch):
    monkeypatch.setattr(reidlit.metrics.distance, "BLOCK_BYTES", 200 * 4 * 200)
    distances = MatrixDistances(np.zeros((500, 200), np.float32))
    assert [(start, stop) for start, stop, _ in iter_tiles(distances)] == [(0, 192), (192, 384), (384, 500)]
    assert [stop - start for start, stop, _ in iter_tiles(distances, size=300)] == [300, 200]


def test_rounding_does_not_depend_on_block_size_or_order():
    rng = np.random.default_rng(70)
    for num_gallery, dim in ((200, 128), (5, 700), (70, 3)):
        query, gallery = (torch.from_numpy(rng.normal(size=(n, dim)).astype(np.float32)) for n in (130, num_gallery))
        whole = EmbeddingDistances(query, gallery).block(0, 130).finished().copy()
        for size in (1, 2, 17, 64, 100):
            for start, stop, block in iter_tiles(EmbeddingDistances(query, gallery), size=size):
                np.testing.assert_array_equal(block.finished(), whole[start:stop])
        order = torch.from_numpy(rng.permutation(130))
        np.testing.assert_array_equal(EmbeddingDistances(query[order], gallery).block(0, 130).finished(), whole[order])


def test_number_of_threads_does_not_change_scores():
    rng = np.random.default_rng(9)
    ids = labels(rng)
    distance = rng.integers(0, 9, (len(ids[0]), len(ids[1]))).astype(np.float32)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            results.append(evaluate(None, None, *ids, distance=distance))
    finally:
        numba.set_num_threads(before)
    for result in results:
        assert_identical(result, results[0])


def test_scores_equal_torchreid_without_ties():
    torchreid = pytest.importorskip("torchreid.reid.metrics")
    rng = np.random.default_rng(10)
    ids = labels(rng)
    distance = rng.permutation(len(ids[0]) * len(ids[1])).reshape(len(ids[0]), -1).astype(np.float32)
    cmc, mean_ap = torchreid.evaluate_rank(distance, *ids, max_rank=50, use_cython=False)
    scores = evaluate(None, None, *ids, distance=distance)
    np.testing.assert_allclose(scores.cmc, cmc, rtol=1e-6)  # Torchreid accumulates in float32
    assert scores.mAP == pytest.approx(mean_ap, rel=1e-6)


def test_hand_computed_example():
    # Ranking of query 0 (pid 1, camera 0): junk, match, non-match, match, so ranks 1 and 3. Query 1 has no match.
    distance = [[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]]
    scores = evaluate(None, None, [1, 2], [1, 1, 2, 1], [0, 0], [0, 1, 0, 2], distance=distance, max_rank=3)
    assert scores.ap[0] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert scores.inp[0] == pytest.approx(2 / 3)
    assert np.isnan(scores.ap[1])
    assert np.isnan(scores.inp[1])
    assert scores.first_match.tolist() == [1, 0]
    assert scores.num_matches.tolist() == [2, 0]
    assert (scores.num_valid, scores.num_queries, scores.num_no_match) == (1, 2, 1)
    assert scores.mAP == scores.ap[0]
    assert scores.cmc.tolist() == [1.0, 1.0, 1.0]
    assert scores.cmc.dtype == np.float64


def test_without_cameras_nothing_is_junk():
    distance = [[0.1, 0.2, 0.3]]
    assert evaluate(None, None, [1], [0, 1, 1], distance=distance).first_match.tolist() == [2]
    assert evaluate(None, None, [1], [0, 1, 1], [5], [5, 5, 6], distance=distance).first_match.tolist() == [2]
    with pytest.raises(ValueError, match=r"of the 1 queries.*q_camids"):
        evaluate(None, None, [1], [0, 1, 1], [5], [5, 5, 5], distance=distance)


def test_ranks_beyond_max_rank_and_beyond_the_gallery():
    scores = evaluate(None, None, [0, 1], [0, 2, 2, 1], distance=[[0, 1, 2, 3]] * 2, max_rank=2)
    assert scores.cmc.tolist() == [0.5, 0.5]
    assert [scores.rank(k) for k in (1, 2, 3, 4, 5, 1000)] == [0.5, 0.5, 0.5, 1, 1, 1]
    small = evaluate(None, None, [0], [1, 0], distance=[[0, 1]])
    assert small.cmc.shape == (50,)
    assert small.cmc.tolist() == [0] + [1] * 49
    with pytest.raises(ValueError, match="k=0"):
        small.rank(0)


def test_scores_convert_to_dict_and_pickle():
    scores = evaluate(None, None, [0, 3], [1, 0], distance=[[0, 1]] * 2)
    assert scores.as_dict() == {
        "mAP": 0.5,
        "mINP": 0.5,
        "rank1": 0.0,
        "rank5": 1.0,
        "rank10": 1.0,
        "rank20": 1.0,
        "num_valid": 1,
        "num_queries": 2,
    }
    assert "mAP=0.5" in repr(scores)
    assert_identical(pickle.loads(pickle.dumps(scores)), scores)


EYE = np.eye(3)
INVALID = {
    "query None": ({"query": None}, r"query.*None.*distance="),
    "query 1-D": ({"query": np.ones(3)}, r"query.*\(3,\)"),
    "gallery 3-D": ({"gallery": np.ones((3, 1, 3))}, r"gallery.*\(3, 1, 3\)"),
    "query empty": ({"query": np.ones((0, 3))}, r"query.*\(0, 3\)"),
    "gallery empty": ({"gallery": torch.ones(0, 3)}, r"gallery.*\(0, 3\)"),
    "dimensions": ({"gallery": np.ones((3, 4))}, "query has 3 .*gallery has 4"),
    "NaN": ({"gallery": np.diag([1, np.nan, 1])}, r"gallery contains 1 of 3 .*row 1"),
    "infinite": ({"query": torch.diag(torch.tensor([1, 1, -torch.inf]))}, r"query contains 1 of 3 .*row 2"),
    "too large": ({"query": EYE * 1e30}, r"query contains 3 of 3 .*float32.*row 0"),
    "too large to cast": ({"query": EYE * 1e300}, r"query contains 3 of 3 .*float32.*row 0"),
    "text": ({"query": np.full((3, 3), "a")}, "query.*<U1"),
    "complex": ({"gallery": torch.ones(3, 3, dtype=torch.complex64)}, r"gallery.*torch\.complex64"),
    "metric": ({"metric": "l1"}, "metric='l1'.*euclidean, cosine"),
    "protocol": ({"protocol": "vehicle"}, "protocol='vehicle'.*market1501"),
    "max_rank": ({"max_rank": 0}, "max_rank=0"),
    "block_size": ({"block_size": 0}, "block_size=0"),
    "q_pids length": ({"q_pids": [0, 1]}, r"q_pids.*\(2,\).*\(3,\)"),
    "g_pids length": ({"g_pids": [0, 1, 2, 3]}, r"g_pids.*\(4,\).*\(3,\)"),
    "g_pids 2-D": ({"g_pids": [[0, 1, 2]]}, r"g_pids.*\(1, 3\)"),
    "q_pids float": ({"q_pids": [0.0, 1.0, 2.0]}, "q_pids.*float64"),
    "q_camids missing": ({"g_camids": [1, 1, 1]}, "q_camids.*None"),
    "g_camids missing": ({"q_camids": [1, 1, 1]}, "g_camids.*None"),
    "g_camids length": ({"q_camids": [1, 1, 1], "g_camids": [1]}, r"g_camids.*\(1,\)"),
    "no match": ({"q_pids": [7, 8, 9]}, "of the 3 queries.*q_pids"),
    "distance shape": ({"distance": np.ones(3)}, r"distance.*\(3,\)"),
    "distance empty": ({"distance": torch.ones(0, 3)}, r"distance.*\(0, 3\)"),
    "distance size": ({"distance": np.ones((2, 3))}, r"q_pids.*\(3,\).*\(2,\)"),
    "distance NaN": ({"distance": EYE * [np.nan, 1, 1]}, "distance.*NaN.*row 0"),
    "distance text": ({"distance": np.full((3, 3), "a")}, "distance.*<U1"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_arguments_raise(case):
    changes, message = INVALID[case]
    valid = {"query": EYE, "gallery": EYE, "q_pids": [0, 1, 2], "g_pids": [0, 1, 2]}
    with pytest.raises(ValueError, match=message):
        evaluate(**(valid | changes))


def test_row_of_nan_distance_is_relative_to_the_matrix():
    distance = np.ones((5, 2))
    distance[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        evaluate(None, None, [0] * 5, [0, 1], distance=distance, block_size=2)


IMPORT_COPY = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("kernels", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import numpy as np
print(module.rank_in_row(np.zeros(3), 0))
"""


@pytest.mark.slow
def test_kernels_run_without_writable_cache_folder(tmp_path):
    copy = tmp_path / "package" / "row_kernels.py"
    copy.parent.mkdir()
    shutil.copy(Path(row_kernels.__file__), copy)
    blocker = tmp_path / "file"  # a file in place of a folder blocks even the superuser
    for blocked in (blocker, copy.parent / "__pycache__"):
        blocked.touch()
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment |= {"HOME": str(blocker), "XDG_CACHE_HOME": str(blocker), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_COPY, str(copy)], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "1\n"


def test_jit_compiles_if_numba_cannot_cache(monkeypatch):
    njit = numba.njit

    def njit_without_cache(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", njit_without_cache)
    assert jit()(lambda x: x + 1)(1) == 2


@pytest.mark.slow
def test_kernel_cache_is_invalidated_by_changes_in_other_modules(tmp_path):
    start = "from reidlit.metrics._ranking.numba_cache import jit\n"
    inner, outer = tmp_path / "inner_kernels.py", tmp_path / "outer_kernels.py"
    outer.write_text(f"{start}from inner_kernels import step\n@jit()\ndef twice(x):\n    return step(step(x))\n")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    code = "from outer_kernels import twice; print(twice(1), sum(twice.stats.cache_hits.values()))"

    def run():
        process = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return process.stdout.split()

    inner.write_text(f"{start}@jit()\ndef step(x):\n    return x + 1\n")
    assert [run(), run()] == [["3", "0"], ["3", "1"]]
    inner.write_text(f"{start}@jit()\ndef step(x):\n    return x + 50\n")
    assert run() == ["101", "0"]

"""Device tiles, here on the CPU, against host tiles with Numba kernels, and the histogram bins of both."""

import numpy as np
import pytest
import torch

from reidlit.metrics import evaluate, pairwise_distance
from reidlit.metrics._ranking.device_tiles import DeviceTile
from reidlit.metrics._ranking.histogram import BINS, bin_of, upper_edge
from reidlit.metrics._ranking.match_kernels import CHUNK
from reidlit.metrics._ranking.relevance import Relevance
from reidlit.metrics._ranking.row_kernels import PIECE, STRIDE
from reidlit.metrics._ranking.tiles import GalleryGroups, HostTile, RankingRequest
from reidlit.metrics.distance import EmbeddingDistances
from reidlit.metrics.protocols import CrossCamera

KINDS = {
    "random": lambda rng, shape: rng.random(shape),
    "many ties": lambda rng, shape: rng.integers(0, 4, shape),
    "all equal": lambda _, shape: np.ones(shape),
    "negative": lambda rng, shape: rng.normal(size=shape).round(1),
    "signed zeros": lambda rng, shape: rng.choice([-1.0, -0.0, 0.0, 1.0], shape),
    "infinite": lambda rng, shape: rng.choice([-np.inf, 0.0, 1.0, np.inf], shape),
    "all infinite": lambda _, shape: np.full(shape, np.inf),
    "extreme": lambda rng, shape: rng.choice([-3e38, -1e-45, 1e-45, 1e-38, 3e38], shape),
}


def labels(rng, num_query, num_gallery, pids=6, cameras=3):
    sizes = (num_query, num_gallery, num_query, num_gallery)
    return [rng.integers(0, high, size) for high, size in zip((pids, pids, cameras, cameras), sizes, strict=True)]


def mixed(rng):
    q_pids, g_pids, q_camids, g_camids = labels(rng, 20, 150)
    q_pids[[0, 7, 8, 19]] = 99  # without a match
    q_camids[[0, 1, 12]] = 99  # without junk
    return q_pids, g_pids, q_camids, g_camids


def only_absent(rng):
    q_pids, *others = labels(rng, 20, 150)
    return q_pids + 99, *others


LAYOUTS = {
    "mixed": mixed,
    "no match and no junk": only_absent,
    "only junk": lambda rng: labels(rng, 20, 150, cameras=1),
    "many matches": lambda rng: labels(rng, 3, 600, pids=2),
    "one query": lambda rng: labels(rng, 1, 150),
    "one gallery entry": lambda rng: labels(rng, 20, 1, pids=2, cameras=2),
    "one of each, a match": lambda _: [np.array([value]) for value in (0, 0, 0, 1)],
    "one of each, junk": lambda _: [np.array([value]) for value in (0, 0, 0, 0)],
    "one of each, a distractor": lambda _: [np.array([value]) for value in (0, 1, 0, 0)],
}


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def compare(device, host, relevance, groups):
    """Compare all results of a device tile and a host tile."""
    num_query, num_gallery = host.values.shape
    length = min(num_gallery, 200)
    empty = Relevance.none(num_query)
    for k, request_relevance, request_groups in (
        (1, relevance, groups),
        (3, empty, None),
        (length, relevance, None),
        (length + 5, relevance, groups),
    ):
        actual, expected = (tile.rank(request_relevance, RankingRequest(request_groups, k)) for tile in (device, host))
        assert len(actual.group_ranks) == (0 if request_groups is None else len(request_relevance.matches))
        for a, b in zip((*actual[:2], *actual.nearest), (*expected[:2], *expected.nearest), strict=True):
            assert_same(a, b)
        assert actual.nearest[0].shape == (num_query, k)
    for a, b in zip(device.nearest(3), host.nearest(3), strict=True):
        assert_same(a, b)
    for rows, columns in (
        (relevance.match_rows, relevance.matches),
        (relevance.junk_rows, relevance.junk),
        (np.array([num_query - 1, 0]), np.array([0, num_gallery - 1])),
    ):
        assert_same(device.at(rows, columns), host.at(rows, columns))
    for columns in (np.arange(num_gallery)[::-2].copy(), np.array([0, 0]), np.empty(0, np.int64)):
        assert_same(device.columns(columns), host.columns(columns))
    assert_same(device.largest(), host.largest())
    assert_same(device.finished(), host.finished())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_device_tile_equals_host_tile(kind, layout):
    rng = np.random.default_rng(1)
    q_pids, g_pids, q_camids, g_camids = LAYOUTS[layout](rng)
    values = KINDS[kind](rng, (len(q_pids), len(g_pids))).astype(np.float32)
    relevance, groups = CrossCamera(g_pids, g_camids)(q_pids, q_camids), GalleryGroups.of(g_camids)
    compare(DeviceTile(torch.from_numpy(values.copy())), HostTile(values.copy()), relevance, groups)
    without = CrossCamera(g_pids, None)(q_pids, None)
    compare(DeviceTile(torch.from_numpy(values.copy())), HostTile(values.copy()), without, groups)


def test_layouts_have_the_described_matches_and_junk():
    sizes = {}
    for layout, create in LAYOUTS.items():
        q_pids, g_pids, q_camids, g_camids = create(np.random.default_rng(1))
        relevance = CrossCamera(g_pids, g_camids)(q_pids, q_camids)
        sizes[layout] = [np.diff(relevance.match_offsets), np.diff(relevance.junk_offsets)]
    matches, junk = (count > 0 for count in sizes["mixed"])
    assert [(matches & junk).sum(), (~matches & junk).sum(), (matches & ~junk).sum()] == [14, 0, 2]
    assert (np.concatenate(sizes["one query"]) > 0).all()
    assert [count.sum() for count in sizes["no match and no junk"]] == [0, 0]
    assert sizes["only junk"][0].sum() == 0 < sizes["only junk"][1].min()
    assert sizes["many matches"][0].min() > 128
    assert set(sizes["one gallery entry"][0]) == set(sizes["one gallery entry"][1]) == {0, 1}


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + STRIDE + 1, 2 * CHUNK + 9])
@pytest.mark.parametrize("kind", ["random", "many ties", "signed zeros", "near matches", "near matches with ties"])
def test_device_tile_equals_host_tile_for_long_rows(kind, size):
    rng = np.random.default_rng(6)
    q_pids, g_pids, q_camids, g_camids = labels(rng, 5, size, pids=100)
    if "near" in kind:
        values = 1 + rng.random((5, size))
        values[q_pids[:, None] == g_pids] -= 0.99
        values = (values.round(2) if "ties" in kind else values).astype(np.float32)
    else:
        values = KINDS[kind](rng, (5, size)).astype(np.float32)
    host, device = HostTile(values.copy()), DeviceTile(torch.from_numpy(values.copy()))
    relevance, groups = CrossCamera(g_pids, g_camids)(q_pids, q_camids), GalleryGroups.of(g_camids)
    actual, expected = (tile.rank(relevance, RankingRequest(groups, 20)) for tile in (device, host))
    assert_same(actual.match_ranks, expected.match_ranks)
    assert_same(actual.group_ranks, expected.group_ranks)
    for a, b in zip(actual.nearest, expected.nearest, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_single_distances_equal_finished_tile(metric):
    rng = np.random.default_rng(7)
    query, gallery = (torch.from_numpy(rng.normal(size=(size, 40)).astype(np.float32)) for size in (30, 500))
    rows, columns = rng.integers(0, 30, 300), rng.integers(0, 500, 300)
    tile = EmbeddingDistances(query, gallery, metric).block(0, 30)
    assert isinstance(tile, HostTile)
    tile.rank(Relevance.none(30), RankingRequest(k=3))
    some = tile.at(rows, columns)
    assert tile.affine is not None
    assert_same(some, tile.finished()[rows, columns])
    assert_same(some, pairwise_distance(query, gallery, metric).numpy()[rows, columns])


@pytest.mark.parametrize("seed", range(20))
def test_device_tile_equals_host_tile_for_tiny_tiles(seed):
    rng = np.random.default_rng(seed)
    q_pids, g_pids, q_camids, g_camids = labels(rng, *rng.integers(1, 6, 2), pids=2, cameras=2)
    values = rng.integers(-1, 2, (len(q_pids), len(g_pids))).astype(np.float32)
    relevance = CrossCamera(g_pids, g_camids)(q_pids, q_camids)
    compare(DeviceTile(torch.from_numpy(values.copy())), HostTile(values), relevance, GalleryGroups.of(g_camids))


def test_host_and_device_histograms_are_equal():
    rng = np.random.default_rng(2)
    values = np.concatenate([KINDS[kind](rng, (9, 70)).astype(np.float32) for kind in KINDS])
    blocks = [values[:30], values[30:]]
    host, device = HostTile(blocks[0]).histogram(), DeviceTile(torch.from_numpy(blocks[0])).histogram()
    for values in blocks:
        empty = Relevance.none(len(values))
        HostTile(values.copy()).rank(empty, RankingRequest(histogram=host))
        DeviceTile(torch.from_numpy(values.copy())).rank(empty, RankingRequest(histogram=device))
    index, count = np.unique(bin_of(np.concatenate(blocks).reshape(-1)), return_counts=True)
    for histogram in (host, device, host):  # reading does not change the counts
        bins, counts = histogram.occupied()
        assert bins.dtype == counts.dtype == np.int64
        np.testing.assert_array_equal(bins, index)
        np.testing.assert_array_equal(counts, count)


CALLS = {
    "match_ranks": lambda tile, relevance, _: tile.rank(relevance, RankingRequest()).match_ranks,
    "group_ranks": lambda tile, relevance, groups: tile.rank(relevance, RankingRequest(groups)).group_ranks,
    "nearest": lambda tile, relevance, _: tile.rank(relevance, RankingRequest(k=5)).nearest[1],
    "nearest distances": lambda tile, *_: tile.nearest(5)[0],
    "at": lambda tile, relevance, _: tile.at(relevance.match_rows, relevance.matches),
    "columns": lambda tile, *_: tile.columns(np.array([3, 1])),
    "largest": lambda tile, *_: tile.largest(),
    "finished": lambda tile, *_: tile.finished(),
}


@pytest.mark.parametrize("first", CALLS)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_inner_products_are_finished_once_in_any_order_of_calls(metric, first):
    rng = np.random.default_rng(3)
    q_pids, g_pids, q_camids, g_camids = labels(rng, 20, 150)
    query, gallery = (torch.from_numpy(rng.normal(size=(size, 5)).astype(np.float32)) for size in (20, 150))
    relevance, groups = CrossCamera(g_pids, g_camids)(q_pids, q_camids), GalleryGroups.of(g_camids)
    device = DeviceTile(pairwise_distance(query, gallery, metric))
    host = EmbeddingDistances(query, gallery, metric).block(0, 20)
    for name in (first, *CALLS):
        call = CALLS[name]
        assert_same(call(device, relevance, groups), call(host, relevance, groups))


class DeviceDistances:
    """Distances with device tiles."""

    def __init__(self, query, gallery):
        self.values = pairwise_distance(query, gallery)
        self.shape = tuple(self.values.shape)

    def block(self, start, stop):
        return DeviceTile(self.values[start:stop].clone())


def assert_equal_scores(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True):
        if hasattr(x, "_fields"):
            assert_equal_scores(x, y)
        else:
            np.testing.assert_array_equal(x, y, err_msg=name)


@pytest.mark.parametrize("protocol", ["market1501", "cuhk03"])
def test_scores_of_device_tiles_equal_host_tiles(protocol):
    rng = np.random.default_rng(4)
    ids = labels(rng, 30, 120)
    ids[0][3], ids[2][5] = 99, 99  # a query without a match, and one without junk
    query, gallery = (rng.integers(0, 2, (size, 16)).astype(np.float32) for size in (30, 120))  # with ties
    query[::2] += rng.normal(size=(15, 16)).astype(np.float32)  # some queries without ties
    options = {"protocol": protocol, "verification": True, "camera_pairs": True, "top_k": 5, "max_rank": 130}
    expected = evaluate(query, gallery, *ids, **options)
    scores = evaluate(query, gallery, *ids, **options, postprocess=[DeviceDistances], block_size=16)
    assert_equal_scores(scores, expected)
    assert (scores.shot_ranks is not None) == (protocol == "cuhk03")
    assert scores.num_valid < scores.num_queries
    assert 0 < scores.verification.curve.auc < 1
    assert scores.nearest.indices.shape[1] == 5
    assert scores.camera_pairs.num_queries.sum() > 0


def assert_bins_hold(values):
    """Assert the properties of histogram bins for ascending float32 values."""
    index = bin_of(values)
    assert ((index >= 0) & (index < BINS)).all()
    assert (np.diff(index) >= 0).all()
    edge = upper_edge(index)
    assert edge.dtype == np.float64
    assert (edge >= values).all()
    np.testing.assert_array_equal(bin_of(edge), index)
    finite = np.isfinite(edge) & (edge < np.finfo(np.float32).max)
    beyond = np.nextafter(edge[finite].astype(np.float32), np.float32(np.inf))
    np.testing.assert_array_equal(bin_of(beyond), index[finite] + 1)  # so the edge is the largest value of its bin
    normal = np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore"):
        assert ((edge - values)[normal] < 4e-5 * np.abs(values[normal].astype(np.float64))).all()


TINY = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)
VALUES = {
    "all bit patterns": lambda rng: rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32),
    "usual distances": lambda rng: rng.uniform(-1e-3, 4, 5000).astype(np.float32),
    "zeros": lambda _: np.array([-0.0, 0.0], np.float32),
    "positive subnormals": lambda rng: np.append(rng.uniform(0, TINY, 500), 1e-45).astype(np.float32),
    "negative subnormals": lambda rng: np.append(-rng.uniform(0, TINY, 500), -1e-45).astype(np.float32),
    "extremes": lambda _: np.array([-LARGEST, -TINY, TINY, LARGEST], np.float32),
    "negative infinity": lambda _: np.array([-np.inf, -LARGEST], np.float32),
    "infinity": lambda _: np.array([LARGEST, np.inf], np.float32),
}


@pytest.mark.parametrize("kind", VALUES)
def test_bins_ascend_and_edges_are_close_to_values(kind):
    values = VALUES[kind](np.random.default_rng(5))
    assert_bins_hold(np.sort(values[np.isfinite(values)] if kind == "all bit patterns" else values))


def test_positive_and_negative_zero_share_a_bin():
    assert len(set(bin_of(np.array([-0.0, 0.0], np.float32)))) == 1


def test_verification_supports_infinite_distances():
    ids = [0, 1], [0, 1, 1]
    distance = [[0.0, np.inf, np.inf], [np.inf, 1, np.inf]]
    curve = evaluate(None, None, *ids, distance=distance, verification=True).verification.curve
    assert curve.threshold[-1] == np.inf
    assert curve.auc == pytest.approx((3 + 3 + 1.5) / 9)

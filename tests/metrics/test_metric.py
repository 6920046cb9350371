import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch.multiprocessing import spawn

from reidlit.metrics import ReIDMetric, Scores, evaluate

NUM_QUERY, NUM_GALLERY, DIM = 13, 40, 8


@pytest.fixture
def samples():
    return make_samples()


def make_samples():
    """Query and gallery as one list of samples, as a loader would give them."""
    generator = torch.Generator().manual_seed(0)
    size = NUM_QUERY + NUM_GALLERY
    return {
        "embedding": torch.randn(size, DIM, generator=generator),
        "pid": torch.randint(0, 5, (size,), generator=generator),
        "camid": torch.randint(0, 3, (size,), generator=generator),
        "index": torch.cat([torch.arange(NUM_QUERY), torch.arange(NUM_GALLERY)]),
        "query": torch.arange(size) < NUM_QUERY,
    }


def expected_scores(samples, **options):
    q, g = samples["query"], ~samples["query"]
    ids = (samples[name][rows] for name in ("pid", "camid") for rows in (q, g))
    return evaluate(samples["embedding"][q], samples["embedding"][g], *ids, **options)


def update(metric, samples, rows, batch_size=7):
    for batch in torch.as_tensor(rows).split(batch_size):
        metric.update(**{name: value[batch] for name, value in samples.items()})


def assert_identical(a, b):
    assert type(a) is type(b) is Scores
    for name in Scores._fields:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("options", [{}, {"metric": "cosine"}, {"normalize": True, "max_rank": 5}])
def test_equals_evaluate(samples, options):
    metric = ReIDMetric(**options)
    update(metric, samples, range(NUM_QUERY + NUM_GALLERY))
    assert_identical(metric.compute(), expected_scores(samples, **options))


def test_order_and_repeated_samples_change_nothing(samples):
    # Equal embeddings make the order of the gallery matter: it must be that of the index.
    samples["embedding"] = samples["embedding"].round()[:, :1].clamp(-1, 1).repeat(1, DIM)
    rows = torch.randperm(NUM_QUERY + NUM_GALLERY, generator=torch.Generator().manual_seed(1))
    metric = ReIDMetric()
    update(metric, samples, torch.cat([rows, rows[:9], rows[:2]]))
    scores = metric.compute()
    assert_identical(scores, expected_scores(samples))
    shuffled = {name: value[rows] for name, value in samples.items()}
    assert expected_scores(shuffled).mAP != scores.mAP


def test_embeddings_are_kept_in_fp32_without_their_graph(samples):
    samples["embedding"] = samples["embedding"].bfloat16().requires_grad_()
    metric = ReIDMetric()
    update(metric, samples, range(NUM_QUERY + NUM_GALLERY))
    assert all(kept.dtype == torch.float32 and not kept.requires_grad for kept in metric.embedding)
    assert_identical(metric.compute(), expected_scores(samples))


def test_reset_compute_again_and_pickle(samples):
    everything = range(NUM_QUERY + NUM_GALLERY)
    metric = ReIDMetric()
    update(metric, samples, everything)
    first = metric.compute()
    assert metric.compute() is first  # torchmetrics' cache
    update(metric, samples, everything)
    assert_identical(metric.compute(), first)
    metric.reset()
    assert not metric.embedding
    other = samples | {"embedding": -samples["embedding"].flip(0)}
    update(metric, other, everything)
    assert_identical(pickle.loads(pickle.dumps(metric)).compute(), expected_scores(other))
    assert not metric.state_dict()


def test_forward_updates_and_has_no_batch_value(samples):
    metric = ReIDMetric()
    assert metric(**samples) is None
    assert_identical(metric.compute(), expected_scores(samples))


def test_missing_set_is_named(samples):
    metric = ReIDMetric()
    with pytest.warns(UserWarning, match="before the ``update`` method"), pytest.raises(ValueError, match="no query"):
        metric.compute()
    update(metric, samples, range(NUM_QUERY))
    with pytest.raises(ValueError, match="no gallery sample"):
        metric.compute()


def test_index_used_for_different_samples_is_refused(samples):
    samples["index"][NUM_QUERY + 7] = 3
    samples["camid"][NUM_QUERY + 7] = samples["camid"][NUM_QUERY + 3] + 1
    metric = ReIDMetric()
    update(metric, samples, range(NUM_QUERY + NUM_GALLERY))
    with pytest.raises(ValueError, match="index 3 of the gallery set stands for samples with different pid or camid"):
        metric.compute()


def test_nan_embeddings_stop_compute(samples):
    samples["embedding"][NUM_QUERY + 2, 0] = torch.nan
    metric = ReIDMetric()
    update(metric, samples, range(NUM_QUERY + NUM_GALLERY))
    with pytest.raises(ValueError, match=r"gallery holds 1 of 40 embeddings that are NaN.*row 2"):
        metric.compute()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("embedding", torch.zeros(3), r"embedding must be \(B, D\), got shape \(3,\)"),
        ("pid", torch.zeros(4), r"pid has shape \(4,\), but the embedding needs \(53,\)"),
        ("query", torch.zeros(53, 1), r"query has shape \(53, 1\)"),
    ],
)
def test_update_refuses_shapes_that_do_not_fit(samples, name, value, message):
    with pytest.raises(ValueError, match=message):
        ReIDMetric().update(**(samples | {name: value}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "l1"}, "metric='l1' is unknown; choose one of euclidean, cosine"),
        ({"protocol": "x"}, "protocol='x' is unknown; choose one of market1501"),
        ({"max_rank": 0}, "max_rank=0 must be"),
    ],
)
def test_constructor_refuses_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        ReIDMetric(**options)


def run_rank(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    samples = make_samples()
    size = NUM_QUERY + NUM_GALLERY
    metric = ReIDMetric()

    own = list(range(rank, size, 2))
    own += [0] * (len(range(0, size, 2)) - len(own))  # the last batch is padded by repeating the first sample
    update(metric, samples, own)
    strided = metric.compute()
    after_own = sum(map(len, metric.embedding))  # unsynced again

    metric.reset()
    update(metric, samples, range(5) if rank == 0 else range(5, size))  # another number of batches each
    uneven = metric.compute()

    metric.reset()
    if rank == 0:  # the other has seen nothing
        update(metric, samples, range(size))
    alone = metric.compute()

    result = {"strided": strided, "uneven": uneven, "alone": alone, "own": after_own}
    Path(folder, f"{rank}.pkl").write_bytes(pickle.dumps(result))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(samples, tmp_path):
    expected = expected_scores(samples)
    spawn(run_rank, args=(str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        result = pickle.loads((tmp_path / f"{rank}.pkl").read_bytes())
        assert result.pop("own") == 27
        for scores in result.values():
            assert_identical(scores, expected)

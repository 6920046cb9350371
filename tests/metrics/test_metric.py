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
    """Query and gallery samples in one set of columns, like the batches of a loader."""
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
def test_compute_equals_evaluate(samples, options):
    metric = ReIDMetric(**options)
    update(metric, samples, range(NUM_QUERY + NUM_GALLERY))
    assert_identical(metric.compute(), expected_scores(samples, **options))


def test_order_and_repeated_samples_do_not_change_scores(samples):
    # With duplicate embeddings, the scores depend on the order of the gallery, which must be that of the index.
    samples["embedding"] = samples["embedding"].round()[:, :1].clamp(-1, 1).repeat(1, DIM)
    rows = torch.randperm(NUM_QUERY + NUM_GALLERY, generator=torch.Generator().manual_seed(1))
    metric = ReIDMetric()
    update(metric, samples, torch.cat([rows, rows[:9], rows[:2]]))
    scores = metric.compute()
    assert_identical(scores, expected_scores(samples))
    shuffled = {name: value[rows] for name, value in samples.items()}
    assert expected_scores(shuffled).mAP != scores.mAP


def test_embeddings_are_stored_in_float32_without_gradient(samples):
    samples["embedding"] = samples["embedding"].bfloat16().requires_grad_()
    metric = ReIDMetric()
    update(metric, samples, range(NUM_QUERY + NUM_GALLERY))
    assert all(batch.dtype == torch.float32 and not batch.requires_grad for batch in metric.embedding)
    assert_identical(metric.compute(), expected_scores(samples))


def test_metric_can_be_reset_recomputed_and_pickled(samples):
    everything = range(NUM_QUERY + NUM_GALLERY)
    metric = ReIDMetric()
    update(metric, samples, everything)
    first = metric.compute()
    assert metric.compute() is first  # cached by torchmetrics
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


def test_compute_without_query_or_gallery_raises(samples):
    metric = ReIDMetric()
    with pytest.warns(UserWarning, match="compute"), pytest.raises(ValueError, match="no query"):
        metric.compute()
    update(metric, samples, range(NUM_QUERY))
    with pytest.raises(ValueError, match="no gallery"):
        metric.compute()


def test_duplicate_index_of_different_samples_raises(samples):
    samples["index"][NUM_QUERY + 7] = 3
    samples["camid"][NUM_QUERY + 7] = samples["camid"][NUM_QUERY + 3] + 1
    metric = ReIDMetric()
    update(metric, samples, range(NUM_QUERY + NUM_GALLERY))
    with pytest.raises(ValueError, match="index 3 of the gallery"):
        metric.compute()


def test_compute_with_nan_embeddings_raises(samples):
    samples["embedding"][NUM_QUERY + 2, 0] = torch.nan
    metric = ReIDMetric()
    update(metric, samples, range(NUM_QUERY + NUM_GALLERY))
    with pytest.raises(ValueError, match=r"gallery contains 1 of 40.*NaN.*row 2"):
        metric.compute()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("embedding", torch.zeros(3), r"embedding.*\(3,\)"),
        ("pid", torch.zeros(4), r"pid.*\(4,\).*\(53,\)"),
        ("query", torch.zeros(53, 1), r"query.*\(53, 1\)"),
    ],
)
def test_update_with_invalid_shapes_raises(samples, name, value, message):
    with pytest.raises(ValueError, match=message):
        ReIDMetric().update(**(samples | {name: value}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "l1"}, "metric='l1'.*euclidean, cosine"),
        ({"protocol": "x"}, "protocol='x'.*market1501"),
        ({"max_rank": 0}, "max_rank=0"),
    ],
)
def test_constructor_with_invalid_options_raises(options, message):
    with pytest.raises(ValueError, match=message):
        ReIDMetric(**options)


def run_rank(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    samples = make_samples()
    size = NUM_QUERY + NUM_GALLERY
    metric = ReIDMetric()

    indices = list(range(rank, size, 2))
    indices += [0] * (len(range(0, size, 2)) - len(indices))  # the sampler pads with the first sample
    update(metric, samples, indices)
    strided = metric.compute()
    num_local = sum(map(len, metric.embedding))  # compute has unsynced the state

    metric.reset()
    update(metric, samples, range(5) if rank == 0 else range(5, size))  # different numbers of batches
    uneven = metric.compute()

    metric.reset()
    if rank == 0:  # the other process has no samples
        update(metric, samples, range(size))
    one_rank = metric.compute()

    result = {"strided": strided, "uneven": uneven, "one_rank": one_rank, "num_local": num_local}
    Path(folder, f"{rank}.pkl").write_bytes(pickle.dumps(result))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_single_process(samples, tmp_path):
    expected = expected_scores(samples)
    spawn(run_rank, args=(str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        result = pickle.loads((tmp_path / f"{rank}.pkl").read_bytes())
        assert result.pop("num_local") == 27
        for scores in result.values():
            assert_identical(scores, expected)

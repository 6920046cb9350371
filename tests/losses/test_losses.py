"""Losses against Torchreid's and against loops."""

import math
import warnings

import pytest
import torch

from reidlit.losses import CrossEntropy, Triplet, WeightedSum
from reidlit.models import ReIDOutput


@pytest.fixture(scope="module")
def torchreid_losses():
    """The oracle's."""
    return pytest.importorskip("torchreid.reid.losses")


def output(features, logits=None):
    return ReIDOutput(features, (features,), () if logits is None else (logits,))


def random_batch(people=4, images=4, dim=16, seed=0):
    torch.manual_seed(seed)
    return torch.randn(people * images, dim, requires_grad=True), torch.arange(people).repeat_interleave(images)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchreids(smoothing, torchreid_losses):
    logits, pid = torch.randn(8, 5), torch.randint(0, 5, (8,))
    theirs = torchreid_losses.CrossEntropyLoss(5, use_gpu=False, label_smooth=smoothing > 0)(logits, pid)
    ours = CrossEntropy(smoothing)(output(torch.zeros(8, 2), logits), pid)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("pids", [[0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 3]])
def test_triplet_is_torchreids(pids, torchreid_losses):
    """Also with anchors that are alone of their identity."""
    features = torch.randn(6, 8, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs uses a deprecated signature
        theirs = torchreid_losses.TripletLoss(0.3)(features, torch.tensor(pids))
    (expected,) = torch.autograd.grad(theirs, features)
    ours = Triplet(0.3)(output(features), torch.tensor(pids))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, features)[0], expected)


@pytest.mark.parametrize("margin", [0.3, None])
def test_triplet_is_batch_hard(margin):
    features, pid = random_batch()
    total = 0.0
    for i in range(len(pid)):
        far = max((features[i] - features[j]).norm().item() for j in range(len(pid)) if pid[j] == pid[i])
        near = min((features[i] - features[j]).norm().item() for j in range(len(pid)) if pid[j] != pid[i])
        total += math.log1p(math.exp(far - near)) if margin is None else max(0.0, far - near + margin)
    assert Triplet(margin)(output(features), pid).item() == pytest.approx(total / len(pid), rel=1e-5)


def test_triplet_does_not_depend_on_the_order():
    features, pid = random_batch()
    order = torch.randperm(len(pid))
    torch.testing.assert_close(Triplet()(output(features), pid), Triplet()(output(features[order]), pid[order]))


def test_triplet_of_collapsed_features_is_the_margin_with_a_finite_gradient():
    features = torch.ones(8, 4, requires_grad=True)
    loss = Triplet(0.3)(output(features), torch.arange(4).repeat_interleave(2))
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert features.grad.isfinite().all()


def test_triplet_of_one_identity_is_zero_with_a_zero_gradient():
    features, _ = random_batch()
    loss = Triplet()(output(features), torch.zeros(16, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert features.grad.abs().max() == 0


def test_losses_are_computed_in_fp32():
    features, pid = random_batch()
    with torch.autocast("cpu", torch.bfloat16):
        half = Triplet()(output(features), pid)
        smoothed = CrossEntropy()(output(features, features.bfloat16()), pid)
    torch.testing.assert_close(half, Triplet()(output(features), pid))
    assert half.dtype == smoothed.dtype == torch.float32


def test_branches_are_averaged():
    logits, pid = [torch.randn(8, 5), torch.randn(8, 5)], torch.randint(0, 5, (8,))
    each = [CrossEntropy()(output(logit, logit), pid) for logit in logits]
    both = CrossEntropy()(ReIDOutput(logits[0], tuple(logits), tuple(logits)), pid)
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


def test_weighted_sum():
    features, pid = random_batch()
    logits = torch.randn(16, 4)
    total, each = WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, {"triplet": 0.5})(
        output(features, logits), pid
    )
    torch.testing.assert_close(total, each["softmax"] + 0.5 * each["triplet"])
    _, without = WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, {"softmax": 0})(output(features), pid)
    assert list(without) == ["triplet"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CrossEntropy(1.5), "label_smoothing=1.5"),
        (lambda: Triplet(-1), "margin=-1"),
        (lambda: WeightedSum({"a": Triplet()}, {"b": 1}), "names .'b'."),
        (lambda: WeightedSum({"a": Triplet()}, {"a": 0}), "one of them positive"),
        (lambda: WeightedSum({"a": Triplet()}, {"a": -1}), "0 or more"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_loss_may_start_later():
    features, pid = random_batch()
    given = output(features, torch.randn(16, 4))
    both = WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, starts={"triplet": 3})
    alone = CrossEntropy()(given, pid)
    for epoch, names in (
        (0, ["softmax"]),
        (2, ["softmax"]),
        (3, ["softmax", "triplet"]),
        (None, ["softmax", "triplet"]),
    ):
        total, each = both(given, pid, None, epoch)
        assert list(each) == names
        torch.testing.assert_close(total, alone + (Triplet()(given, pid) if len(names) == 2 else 0))


@pytest.mark.parametrize(
    ("starts", "words"),
    [({"tripled": 1}, "tripled"), ({"softmax": -1}, "0 or more"), ({"softmax": 1, "triplet": 2}, "must count from 0")],
)
def test_mistakes_in_starts_are_named(starts, words):
    with pytest.raises(ValueError, match=words):
        WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, starts=starts)

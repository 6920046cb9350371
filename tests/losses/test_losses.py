"""`CrossEntropy`, `Triplet` and `WeightedSum` compared with Torchreid and with loops."""

import math
import warnings

import pytest
import torch

from reidlit.losses import CrossEntropy, Triplet, WeightedSum
from reidlit.models import ReIDOutput


@pytest.fixture(scope="module")
def torchreid_losses():
    """The losses of Torchreid, the reference implementation."""
    return pytest.importorskip("torchreid.reid.losses")


def output(features, logits=None):
    return ReIDOutput(features, (features,), () if logits is None else (logits,))


def random_batch(num_pids=4, images_per_pid=4, dim=16, seed=0):
    torch.manual_seed(seed)
    pid = torch.arange(num_pids).repeat_interleave(images_per_pid)
    return torch.randn(num_pids * images_per_pid, dim, requires_grad=True), pid


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_matches_torchreid(smoothing, torchreid_losses):
    logits, pid = torch.randn(8, 5), torch.randint(0, 5, (8,))
    expected = torchreid_losses.CrossEntropyLoss(5, use_gpu=False, label_smooth=smoothing > 0)(logits, pid)
    actual = CrossEntropy(smoothing)(output(torch.zeros(8, 2), logits), pid)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("pids", [[0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 3]])
def test_triplet_matches_torchreid(pids, torchreid_losses):
    """The second case includes identities with a single image."""
    features = torch.randn(6, 8, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torchreid calls a deprecated signature
        expected = torchreid_losses.TripletLoss(0.3)(features, torch.tensor(pids))
    (expected_gradient,) = torch.autograd.grad(expected, features)
    actual = Triplet(0.3)(output(features), torch.tensor(pids))
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(torch.autograd.grad(actual, features)[0], expected_gradient)


@pytest.mark.parametrize("margin", [0.3, None])
def test_triplet_uses_hardest_positive_and_negative(margin):
    features, pid = random_batch()
    total = 0.0
    for i in range(len(pid)):
        far = max((features[i] - features[j]).norm().item() for j in range(len(pid)) if pid[j] == pid[i])
        near = min((features[i] - features[j]).norm().item() for j in range(len(pid)) if pid[j] != pid[i])
        total += math.log1p(math.exp(far - near)) if margin is None else max(0.0, far - near + margin)
    assert Triplet(margin)(output(features), pid).item() == pytest.approx(total / len(pid), rel=1e-5)


def test_image_order_does_not_change_triplet():
    features, pid = random_batch()
    order = torch.randperm(len(pid))
    torch.testing.assert_close(Triplet()(output(features), pid), Triplet()(output(features[order]), pid[order]))


def test_triplet_of_collapsed_features_equals_margin():
    features = torch.ones(8, 4, requires_grad=True)
    loss = Triplet(0.3)(output(features), torch.arange(4).repeat_interleave(2))
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert features.grad.isfinite().all()


def test_triplet_of_single_identity_is_zero():
    features, _ = random_batch()
    loss = Triplet()(output(features), torch.zeros(16, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert features.grad.abs().max() == 0


def test_losses_are_computed_in_fp32():
    features, pid = random_batch()
    with torch.autocast("cpu", torch.bfloat16):
        triplet = Triplet()(output(features), pid)
        cross_entropy = CrossEntropy()(output(features, features.bfloat16()), pid)
    torch.testing.assert_close(triplet, Triplet()(output(features), pid))
    assert triplet.dtype == cross_entropy.dtype == torch.float32


def test_branches_are_averaged():
    logits, pid = [torch.randn(8, 5), torch.randn(8, 5)], torch.randint(0, 5, (8,))
    first, second = [CrossEntropy()(output(branch, branch), pid) for branch in logits]
    both = CrossEntropy()(ReIDOutput(logits[0], tuple(logits), tuple(logits)), pid)
    torch.testing.assert_close(both, (first + second) / 2)


def test_weighted_sum_applies_weights():
    features, pid = random_batch()
    logits = torch.randn(16, 4)
    total, terms = WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, {"triplet": 0.5})(
        output(features, logits), pid
    )
    torch.testing.assert_close(total, terms["softmax"] + 0.5 * terms["triplet"])
    _, terms = WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, {"softmax": 0})(output(features), pid)
    assert list(terms) == ["triplet"]


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: CrossEntropy(1.5), r"label_smoothing=1\.5"),
        (lambda: Triplet(-1), "margin=-1"),
        (lambda: WeightedSum({"a": Triplet()}, {"b": 1}), r"loss\.weights.*'b'.*'a'"),
        (lambda: WeightedSum({"a": Triplet()}, {"a": 0}), r"loss\.weights={'a': 0\.0}"),
        (lambda: WeightedSum({"a": Triplet()}, {"a": -1}), r"loss\.weights={'a': -1\.0}"),
    ],
)
def test_invalid_arguments_raise(make, pattern):
    with pytest.raises(ValueError, match=pattern):
        make()


def test_loss_counts_from_its_start_epoch():
    features, pid = random_batch()
    batch_output = output(features, torch.randn(16, 4))
    weighted_sum = WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, starts={"triplet": 3})
    cross_entropy = CrossEntropy()(batch_output, pid)
    for epoch, names in (
        (0, ["softmax"]),
        (2, ["softmax"]),
        (3, ["softmax", "triplet"]),
        (None, ["softmax", "triplet"]),
    ):
        total, terms = weighted_sum(batch_output, pid, None, epoch)
        assert list(terms) == names
        triplet = Triplet()(batch_output, pid) if "triplet" in names else 0
        torch.testing.assert_close(total, cross_entropy + triplet)


@pytest.mark.parametrize(
    ("starts", "pattern"),
    [
        ({"tripled": 1}, r"loss\.starts.*'tripled'.*'softmax', 'triplet'"),
        ({"softmax": -1}, r"loss\.starts={'softmax': -1}"),
        ({"softmax": 1, "triplet": 2}, r"loss\.starts={'softmax': 1, 'triplet': 2}"),
    ],
)
def test_invalid_starts_raise(starts, pattern):
    with pytest.raises(ValueError, match=pattern):
        WeightedSum({"softmax": CrossEntropy(), "triplet": Triplet()}, starts=starts)

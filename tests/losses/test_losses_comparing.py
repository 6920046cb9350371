"""Losses that compare images against the papers' formulas in plain loops, in float64."""

import math

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional

from reidlit.config import CONFIG_DIR
from reidlit.losses import Triplet, WeightedSum, batch_all_triplet
from reidlit.losses.batch_all_triplet import BatchAllTriplet
from reidlit.losses.centroid_triplet import CentroidTriplet
from reidlit.losses.circle import Circle
from reidlit.losses.supcon import SupCon
from reidlit.losses.weighted_triplet import WeightedTriplet
from reidlit.models import ReIDOutput
from reidlit.spec import build

PIDS = {
    "balanced": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "shuffled": [4, 0, 4, 2, 0, 0, 2, 4, 0, 2],
    "with singletons": [0, 0, 0, 1, 5, 5, 3, 3, 3, 3],
}
OPTIONS = ("batch_all_triplet", "weighted_triplet", "circle", "supcon", "centroid_triplet")
OPTIONS += ("softmax_circle", "softmax_supcon", "softmax_centroid_triplet")


def output(*features):
    return ReIDOutput(features[0], features, ())


def random_features(size, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, dim, generator=generator)


def pairs(pid, anchor):
    """Positives and negatives of an anchor."""
    others = [n for n in range(len(pid)) if n != anchor]
    return [n for n in others if pid[n] == pid[anchor]], [n for n in others if pid[n] != pid[anchor]]


def mean(values):
    return sum(values) / len(values)


def hinge(difference, margin):
    return (1 + difference.exp()).log() if margin is None else (difference + margin).clamp(min=0)


def triplet(x, pid, margin=0.3):
    losses = []
    for a in range(len(pid)):
        positives, negatives = pairs(pid, a)
        far = max(((x[a] - x[p]).norm() for p in positives), default=torch.zeros((), dtype=x.dtype))
        losses.append(hinge(far - min((x[a] - x[n]).norm() for n in negatives), margin))
    return mean(losses)


def batch_all(x, pid, margin=0.3, nonzero=True, normalize=False):
    x = functional.normalize(x) if normalize else x
    losses = []
    for a in range(len(pid)):
        positives, negatives = pairs(pid, a)
        losses += [hinge((x[a] - x[p]).norm() - (x[a] - x[n]).norm(), margin) for p in positives for n in negatives]
    return mean([loss for loss in losses if loss > 0 or not nonzero])


def weighted(x, pid, normalize=False):
    x = functional.normalize(x) if normalize else x
    losses = []
    for a in range(len(pid)):
        positives, negatives = ([(x[a] - x[n]).norm() for n in group] for group in pairs(pid, a))
        if positives and negatives:
            far = sum(d.exp() * d for d in positives) / sum(d.exp() for d in positives)
            near = sum((-d).exp() * d for d in negatives) / sum((-d).exp() for d in negatives)
            losses.append(hinge(far - near, None))
    return mean(losses)


def circle(x, pid, scale=128, margin=0.25):
    """Equations 4 and 6, with the optima and the margins of section 3.3; the weights are constants."""
    x = functional.normalize(x)
    losses = []
    for a in range(len(pid)):
        positives, negatives = ([x[a] @ x[n] for n in group] for group in pairs(pid, a))
        if positives and negatives:
            far = sum((-scale * max(0.0, 1 + margin - s.item()) * (s - (1 - margin))).exp() for s in positives)
            near = sum((scale * max(0.0, s.item() + margin) * (s - margin)).exp() for s in negatives)
            losses.append((1 + far * near).log())
    return mean(losses)


def supcon(x, pid, temperature=0.1):
    """Equation 2."""
    x = functional.normalize(x)
    losses = []
    for a in range(len(pid)):
        positives, negatives = pairs(pid, a)
        if positives:
            everyone = sum((x[a] @ x[n] / temperature).exp() for n in positives + negatives)
            losses.append(-mean([((x[a] @ x[p] / temperature).exp() / everyone).log() for p in positives]))
    return mean(losses)


def centroid(x, pid, margin=0.5, squared=False, normalize=False):
    x = functional.normalize(x) if normalize else x
    losses, power = [], 2 if squared else 1
    for a in range(len(pid)):
        positives, negatives = pairs(pid, a)
        if positives:
            others = {pid[n] for n in negatives}
            centroids = [mean([x[n] for n in negatives if pid[n] == other]) for other in others]
            own = (x[a] - mean([x[p] for p in positives])).norm()
            losses.append(hinge(own**power - min((x[a] - c).norm() for c in centroids) ** power, margin))
    return mean(losses)


CASES = [
    (Triplet, triplet, {}),
    (Triplet, triplet, {"margin": None}),
    (BatchAllTriplet, batch_all, {}),
    (BatchAllTriplet, batch_all, {"margin": 0.8, "nonzero": False}),
    (BatchAllTriplet, batch_all, {"margin": None, "normalize": True}),
    (WeightedTriplet, weighted, {}),
    (WeightedTriplet, weighted, {"normalize": True}),
    (Circle, circle, {}),
    (Circle, circle, {"scale": 32.0, "margin": 0.4}),
    (SupCon, supcon, {}),
    (SupCon, supcon, {"temperature": 0.5}),
    (CentroidTriplet, centroid, {}),
    (CentroidTriplet, centroid, {"squared": True}),
    (CentroidTriplet, centroid, {"margin": None, "normalize": True}),
]
LOSSES = [case[0](**case[2]) for case in CASES]
NAMES = [f"{case[0].__name__} {case[2]}" for case in CASES]
of_each_loss = pytest.mark.parametrize("loss", LOSSES, ids=NAMES)


@pytest.mark.parametrize("pids", PIDS.values(), ids=PIDS)
@pytest.mark.parametrize(("make", "formula", "options"), CASES, ids=NAMES)
def test_value_and_gradient_are_the_papers(make, formula, options, pids):
    features = random_features(len(pids)).requires_grad_()
    exact = features.detach().double().requires_grad_()
    expected = formula(exact, pids, **options)
    loss = make(**options)(output(features), torch.tensor(pids))
    assert expected.item() > 0
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradient, exact_gradient = torch.autograd.grad(loss, features)[0], torch.autograd.grad(expected, exact)[0]
    assert exact_gradient.abs().max() > 0
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("pids", "zero"),
    [([7, 7, 7, 7], True), ([1, 2, 3, 4], True), ([1], True), ([0, 0, 1, 1], False), ([0, 0, 1, 2], False)],
    ids=["one identity", "singletons", "one image", "two identities", "some singletons"],
)
@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["identical", "different"])
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@of_each_loss
def test_nothing_is_infinite_where_little_can_be_compared(loss, pids, zero, spread):
    """Not in the middle of the backward pass either, where a NaN may meet a zero."""
    features = (1 + spread * random_features(len(pids), seed=1)).requires_grad_()
    with torch.autograd.detect_anomaly(check_nan=True):
        value = loss(output(features), torch.tensor(pids))
        value.backward()
    assert value.isfinite()
    assert features.grad.isfinite().all()
    one_identity, alone = len(set(pids)) == 1, len(set(pids)) == len(pids)
    # Singletons are their own positives to batch-hard triplets, and positives are told from each other by SupCon.
    if zero and not (isinstance(loss, Triplet) and not one_identity) and not (isinstance(loss, SupCon) and not alone):
        assert value.item() == 0
        assert features.grad.abs().max() == 0


def test_single_identity_of_supcon_is_its_formula():
    features = random_features(4).double()
    expected = supcon(features, [3] * 4)
    assert SupCon()(output(features), torch.tensor([3] * 4)).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (BatchAllTriplet(0.3), 0.3),
        (WeightedTriplet(), math.log(2)),
        (Circle(2.0, 0.25), math.log(1 + 3 * math.exp(-2 * 0.25 * 0.25) * 8 * math.exp(2 * 1.25 * 0.75))),
        (SupCon(), math.log(11)),
        (CentroidTriplet(0.5), 0.5),
    ],
)
def test_collapsed_features(loss, expected):
    value = loss(output(torch.ones(12, 5)), torch.arange(12) % 3)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@of_each_loss
def test_mixed_precision_changes_nothing(loss, dtype):
    pid = torch.arange(12) % 4
    features = random_features(12).requires_grad_()
    half = features.detach().to(dtype)
    alone, rounded = loss(output(features), pid), loss(output(half.float()), pid)
    (gradient,) = torch.autograd.grad(alone, features)
    with torch.autocast("cpu", dtype):
        mixed, of_half = loss(output(features), pid), loss(output(half), pid)
    (mixed_gradient,) = torch.autograd.grad(mixed, features)
    assert mixed.dtype == of_half.dtype == torch.float32
    assert torch.equal(mixed, alone)
    assert torch.equal(of_half, rounded)
    assert torch.equal(mixed_gradient, gradient)


@of_each_loss
def test_order_does_not_matter_and_branches_are_averaged(loss):
    pid, one, two = torch.arange(12) % 4, random_features(12), random_features(12, dim=3, seed=1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(output(one[order]), pid[order]), loss(output(one), pid))
    torch.testing.assert_close(loss(output(one, two), pid), (loss(output(one), pid) + loss(output(two), pid)) / 2)


@of_each_loss
def test_scale_of_features_does_not_matter_where_they_are_normalised(loss):
    pid, features = torch.arange(12) % 4, random_features(12)
    same = torch.isclose(loss(output(features), pid), loss(output(9 * features), pid), rtol=1e-4)
    assert same == loss.normalize


@of_each_loss
def test_training_separates_identities(loss):
    """The loss is smaller where identities lie apart than where they are mixed."""
    pid = torch.arange(12) % 4
    apart = 4 * functional.one_hot(pid, 6).float() + 0.1 * random_features(12)
    assert loss(output(apart), pid) < loss(output(random_features(12)), pid)


@of_each_loss
def test_gets_the_batch_of_all_devices(loss):
    pid, own, everyone = torch.arange(8) % 4, random_features(8), random_features(16, seed=1)
    _, each = WeightedSum({"loss": loss})(output(own), pid, (output(everyone), torch.arange(16) % 4))
    assert each["loss"] == loss(output(everyone), torch.arange(16) % 4)


@pytest.mark.parametrize("margin", [0.3, None])
def test_all_triplets_never_exist_at_once(monkeypatch, margin):
    pid, loss = torch.arange(48) % 12, BatchAllTriplet(margin)
    features = random_features(48).requires_grad_()
    whole = loss(output(features), pid)
    (gradient,) = torch.autograd.grad(whole, features)
    largest = []

    def record(self, *rows, inner=BatchAllTriplet._triplets):
        largest.append(rows[0].numel() * len(pid))
        return inner(self, *rows)

    monkeypatch.setattr(batch_all_triplet, "TRIPLETS", 5 * 48**2)
    monkeypatch.setattr(BatchAllTriplet, "_triplets", record)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda x: x):
        parts = loss(output(features), pid)
    (gradient_of_parts,) = torch.autograd.grad(parts, features)
    assert max(largest) == 5 * 48**2
    assert len(largest) == 2 * 10  # forward and backward
    assert max(saved) <= 48**2
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(gradient_of_parts, gradient)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Triplet(math.nan), "margin=nan must be 0 or more"),
        (lambda: BatchAllTriplet(-0.1), "margin=-0.1 must be 0 or more"),
        (lambda: CentroidTriplet(math.inf), "margin=inf must be 0 or more"),
        (lambda: Circle(scale=0), "scale=0 must be positive"),
        (lambda: Circle(margin=1.5), "margin=1.5 must lie in 0 to 1"),
        (lambda: SupCon(0), "temperature=0 must be positive"),
        (lambda: SupCon(math.nan), "temperature=nan"),
    ],
)
def test_bad_values_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name", OPTIONS)
def test_option_builds_its_losses_with_the_defaults_and_brings_identity_batches(name):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"loss={name}"])
    assert cfg.sampler._target_.endswith("IdentityBatches")
    losses = {key: build(spec) for key, spec in cfg.loss.losses.items()}
    terms = ["softmax", name.removeprefix("softmax_")] if name.startswith("softmax_") else [name]
    assert list(WeightedSum(losses, cfg.loss.weights, cfg.loss.get("starts")).losses) == terms
    for loss in losses.values():
        assert options_of(loss) == options_of(type(loss)())


def options_of(loss):
    return {name: value for name, value in vars(loss).items() if not name.startswith("_")}

"""Metric losses compared with the papers' formulas in float64 loops."""

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
    """Return the indices of the positives and of the negatives of an anchor."""
    candidates = [n for n in range(len(pid)) if n != anchor]
    return [n for n in candidates if pid[n] == pid[anchor]], [n for n in candidates if pid[n] != pid[anchor]]


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
    """Equations 4 and 6, with the optima and margins of section 3.3 and weights that get no gradient."""
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
            total = sum((x[a] @ x[n] / temperature).exp() for n in positives + negatives)
            losses.append(-mean([((x[a] @ x[p] / temperature).exp() / total).log() for p in positives]))
    return mean(losses)


def centroid(x, pid, margin=0.5, squared=False, normalize=False):
    x = functional.normalize(x) if normalize else x
    losses, power = [], 2 if squared else 1
    for a in range(len(pid)):
        positives, negatives = pairs(pid, a)
        if positives:
            other_pids = {pid[n] for n in negatives}
            other_centroids = [mean([x[n] for n in negatives if pid[n] == other]) for other in other_pids]
            positive = (x[a] - mean([x[p] for p in positives])).norm()
            losses.append(hinge(positive**power - min((x[a] - c).norm() for c in other_centroids) ** power, margin))
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
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=NAMES)


@pytest.mark.parametrize("pids", PIDS.values(), ids=PIDS)
@pytest.mark.parametrize(("make", "formula", "options"), CASES, ids=NAMES)
def test_value_and_gradient_match_paper(make, formula, options, pids):
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
@each_loss
def test_small_batches_stay_finite(loss, pids, zero, spread):
    """Anomaly detection also finds a NaN within the backward pass that a zero would hide."""
    features = (1 + spread * random_features(len(pids), seed=1)).requires_grad_()
    with torch.autograd.detect_anomaly(check_nan=True):
        value = loss(output(features), torch.tensor(pids))
        value.backward()
    assert value.isfinite()
    assert features.grad.isfinite().all()
    single_identity, all_singletons = len(set(pids)) == 1, len(set(pids)) == len(pids)
    # Batch-hard triplet loss takes a singleton as its own positive. SupCon contrasts the positives with each other.
    nonzero = (isinstance(loss, Triplet) and not single_identity) or (isinstance(loss, SupCon) and not all_singletons)
    if zero and not nonzero:
        assert value.item() == 0
        assert features.grad.abs().max() == 0


def test_supcon_of_single_identity_matches_formula():
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
def test_collapsed_features_have_known_loss(loss, expected):
    value = loss(output(torch.ones(12, 5)), torch.arange(12) % 3)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@each_loss
def test_mixed_precision_does_not_change_loss(loss, dtype):
    pid = torch.arange(12) % 4
    features = random_features(12).requires_grad_()
    half = features.detach().to(dtype)
    expected, expected_half = loss(output(features), pid), loss(output(half.float()), pid)
    (expected_gradient,) = torch.autograd.grad(expected, features)
    with torch.autocast("cpu", dtype):
        mixed, mixed_half = loss(output(features), pid), loss(output(half), pid)
    (mixed_gradient,) = torch.autograd.grad(mixed, features)
    assert mixed.dtype == mixed_half.dtype == torch.float32
    assert torch.equal(mixed, expected)
    assert torch.equal(mixed_half, expected_half)
    assert torch.equal(mixed_gradient, expected_gradient)


@each_loss
def test_image_order_does_not_change_loss_and_branches_are_averaged(loss):
    pid, one, two = torch.arange(12) % 4, random_features(12), random_features(12, dim=3, seed=1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(output(one[order]), pid[order]), loss(output(one), pid))
    torch.testing.assert_close(loss(output(one, two), pid), (loss(output(one), pid) + loss(output(two), pid)) / 2)


@each_loss
def test_only_normalizing_losses_ignore_feature_scale(loss):
    pid, features = torch.arange(12) % 4, random_features(12)
    unchanged = torch.isclose(loss(output(features), pid), loss(output(9 * features), pid), rtol=1e-4)
    assert unchanged == loss.normalize


@each_loss
def test_separated_identities_have_lower_loss(loss):
    pid = torch.arange(12) % 4
    separated = 4 * functional.one_hot(pid, 6).float() + 0.1 * random_features(12)
    assert loss(output(separated), pid) < loss(output(random_features(12)), pid)


@each_loss
def test_loss_uses_batch_of_all_devices(loss):
    pid, gathered_pid = torch.arange(8) % 4, torch.arange(16) % 4
    local, gathered = random_features(8), random_features(16, seed=1)
    _, terms = WeightedSum({"loss": loss})(output(local), pid, (output(gathered), gathered_pid))
    assert terms["loss"] == loss(output(gathered), gathered_pid)


@pytest.mark.parametrize("margin", [0.3, None])
def test_batch_all_triplet_works_in_chunks(monkeypatch, margin):
    pid, loss = torch.arange(48) % 12, BatchAllTriplet(margin)
    features = random_features(48).requires_grad_()
    expected = loss(output(features), pid)
    (expected_gradient,) = torch.autograd.grad(expected, features)
    chunk_sizes = []

    def record(self, *rows, inner=BatchAllTriplet._triplets):
        chunk_sizes.append(rows[0].numel() * len(pid))
        return inner(self, *rows)

    monkeypatch.setattr(batch_all_triplet, "MAX_TRIPLETS", 5 * 48**2)
    monkeypatch.setattr(BatchAllTriplet, "_triplets", record)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda x: x):
        chunked = loss(output(features), pid)
    (chunked_gradient,) = torch.autograd.grad(chunked, features)
    assert max(chunk_sizes) == 5 * 48**2
    assert len(chunk_sizes) == 2 * 10  # forward and backward
    assert max(saved) <= 48**2
    torch.testing.assert_close(chunked, expected)
    torch.testing.assert_close(chunked_gradient, expected_gradient)


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: Triplet(math.nan), "margin=nan"),
        (lambda: BatchAllTriplet(-0.1), r"margin=-0\.1"),
        (lambda: CentroidTriplet(math.inf), "margin=inf"),
        (lambda: Circle(scale=0), "scale=0"),
        (lambda: Circle(margin=1.5), r"margin=1\.5"),
        (lambda: SupCon(0), "temperature=0"),
        (lambda: SupCon(math.nan), "temperature=nan"),
    ],
)
def test_invalid_arguments_raise(make, pattern):
    with pytest.raises(ValueError, match=pattern):
        make()


@pytest.mark.parametrize("name", OPTIONS)
def test_config_uses_defaults_and_identity_batches(name):
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

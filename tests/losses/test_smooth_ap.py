"""`SmoothAP` compared with the paper's formula in float64 loops."""

import math

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional

from reidlit.config import CONFIG_DIR
from reidlit.losses import WeightedSum
from reidlit.losses.smooth_ap import SmoothAP
from reidlit.models import ReIDOutput
from reidlit.spec import build

PIDS = {
    "balanced": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "shuffled": [4, 0, 4, 2, 0, 0, 2, 4, 0, 2],
    "with singletons": [0, 0, 0, 1, 5, 5, 3, 3, 3, 3],
}


def output(*features):
    return ReIDOutput(features[0], features, ())


def random_features(size, dim=6, seed=0):
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(seed))


def mean(values):
    return sum(values) / len(values)


def smooth_ap(x, pid, temperature):
    """Equations 5 and 6, with ranked lists that exclude the query."""
    x = functional.normalize(x)
    losses = []
    for q in range(len(pid)):
        gallery = [n for n in range(len(pid)) if n != q]
        positives, negatives = ([n for n in gallery if (pid[n] == pid[q]) == same] for same in (True, False))
        precisions = []
        for i in positives:

            def above(j, i=i, q=q):
                return 1 / (1 + ((x[q] @ x[i] - x[q] @ x[j]) / temperature).exp())

            rank = 1 + sum(above(j) for j in positives if j != i)
            precisions.append(rank / (rank + sum(above(j) for j in negatives)))
        if positives:
            losses.append(1 - mean(precisions))
    return mean(losses)


@pytest.mark.parametrize("pids", PIDS.values(), ids=PIDS)
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_value_and_gradient_match_paper(temperature, pids):
    features = random_features(len(pids)).requires_grad_()
    exact = features.detach().double().requires_grad_()
    expected = smooth_ap(exact, pids, temperature)
    loss = SmoothAP(temperature)(output(features), torch.tensor(pids))
    assert 0 < expected.item() < 1
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    gradient, exact_gradient = torch.autograd.grad(loss, features)[0], torch.autograd.grad(expected, exact)[0]
    assert exact_gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-3, atol=1e-4)


def test_low_temperature_approaches_average_precision():
    pid, features = torch.arange(24) % 4, random_features(24, dim=3)
    cosine = functional.normalize(features.double()) @ functional.normalize(features.double()).T
    cosine.fill_diagonal_(-2)
    precisions = []
    for scores, p in zip(cosine, pid, strict=True):
        hits = (pid[scores.argsort(descending=True)[:-1]] == p).double()
        precisions.append((hits.cumsum(0) / torch.arange(1, 24) * hits).sum() / hits.sum())
    expected = 1 - mean(precisions).item()
    assert SmoothAP(1e-6)(output(features), pid).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("pids", [[7, 7, 7, 7], [1, 2, 3, 4], [1]], ids=["one identity", "singletons", "one image"])
@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["identical", "different"])
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_loss_and_gradient_are_zero_without_positives_or_negatives(pids, spread):
    features = (1 + spread * random_features(len(pids))).requires_grad_()
    with torch.autograd.detect_anomaly(check_nan=True):
        loss = SmoothAP()(output(features), torch.tensor(pids))
        loss.backward()
    assert loss.item() == 0
    assert features.grad.abs().max() == 0


def test_collapsed_features_have_known_loss():
    features = torch.ones(12, 5, requires_grad=True)
    loss = SmoothAP()(output(features), torch.arange(12) % 3)
    loss.backward()
    # Other images are above a hit with probability 1/2: its rank is 1 + 2 / 2 among positives, plus 8 / 2 negatives.
    assert loss.item() == pytest.approx(1 - 2 / (2 + 4))
    assert features.grad.isfinite().all()


def test_training_ranks_positives_first():
    pid = torch.arange(16) % 4
    features = random_features(16).requires_grad_()
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss = SmoothAP(0.05)(output(features), pid)
        loss.backward()
        optimizer.step()
    assert loss < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_does_not_change_loss(dtype):
    pid, half = torch.arange(12) % 4, random_features(12).to(dtype)
    with torch.autocast("cpu", dtype):
        mixed = SmoothAP()(output(half), pid)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, SmoothAP()(output(half.float()), pid))


def test_loss_ignores_order_averages_branches_and_uses_gathered_batch():
    pid, one, two, loss = torch.arange(12) % 4, random_features(12), random_features(12, dim=3, seed=1), SmoothAP(0.1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    expected = loss(output(one), pid)
    torch.testing.assert_close(loss(output(one[order]), pid[order]), expected)
    torch.testing.assert_close(loss(output(one, two), pid), (expected + loss(output(two), pid)) / 2)
    _, terms = WeightedSum({"smooth_ap": loss})(output(one[:6]), pid[:6], (output(one), pid))
    assert terms["smooth_ap"] == expected


@pytest.mark.parametrize("temperature", [0, -1, math.inf, math.nan])
def test_invalid_temperature_raises(temperature):
    with pytest.raises(ValueError, match=f"temperature={temperature}"):
        SmoothAP(temperature)


def test_config_uses_defaults_and_identity_batches():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["loss=smooth_ap"])
    assert cfg.sampler._target_.endswith("IdentityBatches")
    assert build(cfg.loss.losses.smooth_ap).temperature == SmoothAP().temperature == 0.01

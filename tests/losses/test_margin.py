"""Margin losses compared with the papers' formulas in plain loops."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from reidlit.losses import ArcFace, CircleSoftmax, CosFace, CrossEntropy
from reidlit.models import ReIDOutput
from reidlit.models.classifier import CosineClassifier, LinearClassifier

LOSSES = (ArcFace, CosFace, CircleSoftmax)


def output(*logits):
    return ReIDOutput(logits[0], logits, logits)


def random_cosines(size=6, classes=5, largest=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cosines = (2 * torch.rand(size, classes, generator=generator) - 1) * largest
    return cosines.requires_grad_(), torch.randint(0, classes, (size,), generator=generator)


def smoothed(rows, pids, smoothing=0.0):
    """Return the label-smoothed cross entropy of lists of logits."""
    total = 0.0
    for row, pid in zip(rows, pids, strict=True):
        largest = max(row)
        log_sum = largest + math.log(sum(math.exp(logit - largest) for logit in row))
        uniform = sum(log_sum - logit for logit in row) / len(row)
        total += (1 - smoothing) * (log_sum - row[pid]) + smoothing * uniform
    return total / len(rows)


def arcface(rows, pids, scale, margin, smoothing=0.0):
    logits = [[scale * cosine for cosine in row] for row in rows]
    for row, cosines, pid in zip(logits, rows, pids, strict=True):
        theta = math.acos(cosines[pid])
        before_pi = theta + margin < math.pi
        row[pid] = scale * (math.cos(theta + margin) if before_pi else cosines[pid] - margin * math.sin(margin))
    return smoothed(logits, pids, smoothing)


def cosface(rows, pids, scale, margin, smoothing=0.0):
    logits = [
        [scale * (cosine - margin * (n == pid)) for n, cosine in enumerate(row)]
        for row, pid in zip(rows, pids, strict=True)
    ]
    return smoothed(logits, pids, smoothing)


def circle(rows, pids, scale, margin):
    """Equations 4, 6 and 8: log(1 + sum_j exp(gamma a_n (s_n - margin)) exp(-gamma a_p (s_p - 1 + margin)))."""
    total = 0.0
    for row, pid in zip(rows, pids, strict=True):
        target = math.exp(-scale * max(0.0, 1 + margin - row[pid]) * (row[pid] - 1 + margin))
        others = sum(math.exp(scale * max(0.0, s + margin) * (s - margin)) for n, s in enumerate(row) if n != pid)
        total += math.log(1 + others * target)
    return total / len(rows)


@pytest.mark.parametrize(
    ("make", "formula", "scale", "margin"),
    [
        (ArcFace, arcface, 30, 0.5),
        (ArcFace, arcface, 64, 1.2),
        (CosFace, cosface, 30, 0.35),
        (CosFace, cosface, 64, 0.1),
        (CircleSoftmax, circle, 8, 0.25),
        (CircleSoftmax, circle, 32, 0.4),
    ],
)
def test_loss_matches_paper(make, formula, scale, margin):
    cosines, pid = random_cosines(size=32)
    loss = make(scale, margin)(output(cosines), pid)
    assert loss.item() == pytest.approx(formula(cosines.tolist(), pid.tolist(), scale, margin), rel=1e-5)


def test_circle_matches_paper_at_default_scale():
    cosines, pid = random_cosines(largest=0.5)  # larger cosines overflow in the direct formula
    loss = CircleSoftmax()(output(cosines), pid)
    assert loss.item() == pytest.approx(circle(cosines.tolist(), pid.tolist(), 256, 0.25), rel=1e-5)


@pytest.mark.parametrize(("make", "formula"), [(ArcFace, arcface), (CosFace, cosface)])
def test_label_smoothing_matches_formula(make, formula):
    cosines, pid = random_cosines()
    loss = make(16, 0.3, label_smoothing=0.1)(output(cosines), pid)
    assert loss.item() == pytest.approx(formula(cosines.tolist(), pid.tolist(), 16, 0.3, 0.1), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("make", [ArcFace, CosFace])
def test_zero_margin_equals_cross_entropy_of_scaled_cosines(make, smoothing):
    cosines, pid = random_cosines()
    with torch.no_grad():
        cosines[0, :2] = torch.tensor([1.0, -1.0])
    expected = CrossEntropy(smoothing)(output(30 * cosines), pid)
    torch.testing.assert_close(make(30, 0, smoothing)(output(cosines), pid), expected)


def test_arcface_target_logit_decreases_with_angle():
    theta = torch.linspace(0, math.pi, 500)
    target = ArcFace(margin=0.5).target_logit(theta.cos()[:, None])[:, 0]
    assert (target.diff() < 0).all()
    beyond_pi = theta + 0.5 > math.pi
    assert target[~beyond_pi].min() >= -1 > target[beyond_pi].max()


def test_circle_boundary_is_a_circle():
    """On the boundary, the two classes of equation 7 are equally likely."""
    angle = torch.linspace(0.1, 1.4, 9)
    radius = 0.25 * math.sqrt(2)
    cosines = torch.stack([1 - radius * angle.cos(), radius * angle.sin()], dim=1)
    loss = CircleSoftmax(margin=0.25)(output(cosines), torch.zeros(9, dtype=torch.long))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-4)


def test_circle_gradient_matches_paper():
    """Equation 10, in which the weights get no gradient."""
    cosines = torch.tensor([[0.4, 0.3, 0.1, -0.5]], requires_grad=True)
    loss = CircleSoftmax(16, 0.25)(output(cosines), torch.tensor([0]))
    loss.backward()
    factor = 1 - math.exp(-loss.item())
    weights = {s: max(0.0, s + 0.25) for s in (0.3, 0.1, -0.5)}
    terms = {s: math.exp(16 * weight * (s - 0.25)) for s, weight in weights.items()}
    expected = [factor * 16 * (0.4 - 1 - 0.25)]
    expected += [factor * term / sum(terms.values()) * 16 * weights[s] for s, term in terms.items()]
    assert cosines.grad[0].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("cosine", [1.0, 1 - 2**-24, 1 + 2**-23, -1.0, -1 + 2**-24, -1 - 2**-23, 0.0])
def test_gradient_is_finite_for_extreme_cosines(make, cosine):
    cosines = torch.full((3, 4), cosine, requires_grad=True)
    loss = make()(output(cosines), torch.tensor([0, 1, 3]))
    loss.backward()
    assert loss.isfinite()
    assert cosines.grad.isfinite().all()


# Not for circle loss: a finite difference would include the change of its weights, which get no gradient.
@pytest.mark.parametrize("make", [ArcFace, CosFace])
def test_gradient_matches_finite_differences(make):
    cosines, pid = random_cosines(size=3, classes=3, largest=0.7)
    loss = make(8.0, 0.3)
    (gradient,) = torch.autograd.grad(loss(output(cosines), pid), cosines)
    for i in range(3):
        for j in range(3):
            step = torch.zeros(3, 3)
            step[i, j] = 1e-2
            rise = loss(output(cosines + step), pid) - loss(output(cosines - step), pid)
            assert gradient[i, j].item() == pytest.approx(rise.item() / 2e-2, abs=2e-2)


@pytest.mark.parametrize("make", LOSSES)
def test_branches_are_averaged(make):
    one, pid = random_cosines()
    two, _ = random_cosines(seed=1)
    first, second = [make()(output(cosines), pid) for cosines in (one, two)]
    torch.testing.assert_close(make()(output(one, two), pid), (first + second) / 2)


@pytest.mark.parametrize("make", LOSSES)
def test_loss_is_computed_in_fp32(make):
    cosines, pid = random_cosines()
    half = cosines.detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = make()(output(half), pid)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, make()(output(half.float()), pid))


@pytest.mark.parametrize("make", LOSSES)
def test_training_separates_classes_by_margin(make):
    images, pid, embed = toy_problem()
    classifier = CosineClassifier(8, 4)
    loss = make()
    train(images, pid, embed, classifier, loss, steps=200)
    cosines = classifier(embed(images)).detach()
    target = cosines.gather(1, pid[:, None])[:, 0]
    other = cosines.scatter(1, pid[:, None], -2.0).amax(1)
    if make is CircleSoftmax:
        assert ((1 - target).pow(2) + other.relu().pow(2) < 2 * loss.margin**2).all()
    elif make is CosFace:
        assert (target - other > loss.margin).all()
    else:
        assert (other.acos() - target.acos() > loss.margin).all()


def toy_problem():
    """Return four clusters of images, their labels and an untrained embedding layer."""
    torch.manual_seed(0)
    pid = torch.arange(4).repeat_interleave(8)
    return torch.randn(4, 16)[pid] + 0.3 * torch.randn(32, 16), pid, nn.Linear(16, 8)


def train(images, pid, embed, classifier, loss, steps):
    optimizer = torch.optim.Adam([*embed.parameters(), *classifier.parameters()], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(output(classifier(embed(images))), pid).backward()
        optimizer.step()


@pytest.mark.parametrize("make", LOSSES)
def test_logits_that_are_not_cosines_raise(make):
    logits, pid = random_cosines(largest=3.0)
    with pytest.raises(ValueError, match=f"{make.__name__}.*model/classifier=cosine"):
        make()(output(functional.normalize(logits), logits), pid)


@pytest.mark.parametrize("make", LOSSES)
def test_linear_classifier_raises_once_its_logits_grow(make):
    """The logits of an untrained linear classifier are small enough to be cosines."""
    images, pid, embed = toy_problem()
    classifier = LinearClassifier(8, 4)
    make()(output(classifier(embed(images))), pid)
    with pytest.raises(ValueError, match="model/classifier=cosine"):
        train(images, pid, embed, classifier, make(), steps=500)


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"scale": 0}, "scale=0"),
        ({"scale": math.inf}, "scale=inf"),
        ({"scale": math.nan}, "scale=nan"),
        ({"margin": -0.1}, r"margin=-0\.1"),
        ({"margin": 2.1}, r"margin=2\.1"),
        ({"margin": math.nan}, "margin=nan"),
        ({"label_smoothing": 1.5}, r"label_smoothing=1\.5"),
    ],
)
def test_invalid_arguments_raise(make, arguments, pattern):
    with pytest.raises(ValueError, match=pattern):
        make(**arguments)

"""`AttributeBCE` compared with a loop over labels."""

import math
from types import SimpleNamespace

import pytest
import torch

from reidlit.losses.attribute_bce import AttributeBCE

LABELS = torch.tensor([[1, 0, -1], [0, 0, 1], [1, -1, -1], [1, 1, 0]], dtype=torch.int8)
RATIOS = [0.75, 0.25, 0.05]


def random_logits(count=2, seed=0):
    torch.manual_seed(seed)
    return tuple((3 * torch.randn(4, 3)).requires_grad_() for _ in range(count))


def weight(weighting, label, ratio):
    if weighting == "attribute":
        return math.exp(-ratio)
    if weighting == "label":
        return math.exp(1 - ratio) if label == 1 else math.exp(ratio)
    return 1.0


@pytest.mark.parametrize("weighting", [None, "attribute", "label"])
def test_loss_matches_loop_and_ignores_unknown_labels(weighting):
    logits = random_logits()
    loss = AttributeBCE(weighting, RATIOS)(SimpleNamespace(logits=logits), LABELS)
    total, gradients = 0.0, [torch.zeros(4, 3) for _ in logits]
    num_known = int((LABELS >= 0).sum())
    for branch, gradient in zip(logits, gradients, strict=True):
        for image, row in enumerate(LABELS.tolist()):
            for attribute, label in enumerate(row):
                if label < 0:
                    continue
                probability = 1 / (1 + math.exp(-branch[image, attribute].item()))
                factor = weight(weighting, label, RATIOS[attribute]) / num_known / len(logits)
                total -= factor * math.log(probability if label else 1 - probability)
                gradient[image, attribute] = factor * (probability - label)
    assert loss.item() == pytest.approx(total, rel=1e-5)
    for actual, expected in zip(torch.autograd.grad(loss, logits), gradients, strict=True):
        torch.testing.assert_close(actual, expected)


def test_loss_is_zero_without_known_labels():
    (logits,) = random_logits(1)
    loss = AttributeBCE()(SimpleNamespace(logits=(logits,)), torch.full((4, 3), -1))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_extreme_logits_give_finite_loss():
    logits = torch.tensor([[3e4, -3e4, 0.0]], dtype=torch.float16)
    loss = AttributeBCE("label", RATIOS)(SimpleNamespace(logits=(logits,)), torch.tensor([[0, 1, 1]]))
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (("focal",), "weighting='focal'.*attribute, label"),
        (("label",), "weighting='label'.*ratios"),
        (("label", [0.5, 1.5]), r"ratios=\[0\.5, 1\.5\]"),
    ],
)
def test_invalid_arguments_raise(arguments, pattern):
    with pytest.raises(ValueError, match=pattern):
        AttributeBCE(*arguments)


def test_wrong_number_of_attributes_raises():
    with pytest.raises(ValueError, match=r"\(4, 3\).*\(4, 2\)"):
        AttributeBCE()(SimpleNamespace(logits=(torch.zeros(4, 2),)), LABELS)

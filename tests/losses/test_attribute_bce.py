"""Binary cross entropy over attributes against a loop over labels."""

import math
from types import SimpleNamespace

import pytest
import torch

from reidlit.losses.attribute_bce import AttributeBCE

LABELS = torch.tensor([[1, 0, -1], [0, 0, 1], [1, -1, -1], [1, 1, 0]], dtype=torch.int8)
RATIOS = [0.75, 0.25, 0.05]


def branches(count=2, seed=0):
    torch.manual_seed(seed)
    return tuple((3 * torch.randn(4, 3)).requires_grad_() for _ in range(count))


def weight(weighting, label, ratio):
    if weighting == "attribute":
        return math.exp(-ratio)
    if weighting == "label":
        return math.exp(1 - ratio) if label == 1 else math.exp(ratio)
    return 1.0


@pytest.mark.parametrize("weighting", [None, "attribute", "label"])
def test_loss_is_that_of_a_loop_and_unknown_labels_get_no_gradient(weighting):
    logits = branches()
    loss = AttributeBCE(weighting, RATIOS)(SimpleNamespace(logits=logits), LABELS)
    total, gradients = 0.0, [torch.zeros(4, 3) for _ in logits]
    known = int((LABELS >= 0).sum())
    for branch, of_branch in zip(logits, gradients, strict=True):
        for image, row in enumerate(LABELS.tolist()):
            for attribute, label in enumerate(row):
                if label < 0:
                    continue
                share = 1 / (1 + math.exp(-branch[image, attribute].item()))
                own = weight(weighting, label, RATIOS[attribute]) / known / len(logits)
                total -= own * math.log(share if label else 1 - share)
                of_branch[image, attribute] = own * (share - label)
    assert loss.item() == pytest.approx(total, rel=1e-5)
    for found, expected in zip(torch.autograd.grad(loss, logits), gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_nothing_known_is_no_loss_and_extreme_logits_stay_finite():
    (logits,) = branches(1)
    loss = AttributeBCE()(SimpleNamespace(logits=(logits,)), torch.full((4, 3), -1))
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()
    far = torch.tensor([[3e4, -3e4, 0.0]], dtype=torch.float16)
    far_loss = AttributeBCE("label", RATIOS)(SimpleNamespace(logits=(far,)), torch.tensor([[0, 1, 1]]))
    assert far_loss.dtype == torch.float32
    assert far_loss.isfinite()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("focal",), "weighting='focal' must be one of attribute, label"),
        (("label",), "ratios"),
        (("label", [0.5, 1.5]), "must lie in 0 to 1"),
    ],
)
def test_mistakes_are_named(arguments, words):
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        AttributeBCE(*arguments)


def test_logits_of_another_number_of_attributes_are_refused():
    with pytest.raises(ValueError, match=r"attributes are \(4, 3\), but the model's logits \(4, 2\)"):
        AttributeBCE()(SimpleNamespace(logits=(torch.zeros(4, 2),)), LABELS)

"""Necks and classifiers, compared with plain loops."""

import math

import pytest
import torch
from torch.nn import functional

from reidlit.models.classifier import CosineClassifier, LinearClassifier
from reidlit.models.neck import BNNeck, FCNeck, NoNeck


def vectors(size=6, dim=5):
    torch.manual_seed(0)
    return torch.randn(size, dim) * 2 + 1


def batch_normed(x, weight, bias, eps=1e-5):
    """Scale columns to mean `bias` and standard deviation `weight` with plain loops."""
    columns = []
    for column, scale, shift in zip(x.T.tolist(), weight.tolist(), bias.tolist(), strict=True):
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        columns.append([(value - mean) / math.sqrt(variance + eps) * scale + shift for value in column])
    return torch.tensor(columns).T


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_no_neck_returns_its_input():
    x = vectors()
    neck = NoNeck(5)
    assert all(each is x for each in neck(x))
    assert neck.num_features == neck.embedding_size == 5


def test_fc_neck_is_linear_norm_and_relu():
    x = vectors()
    neck = FCNeck(5, dim=3)
    with torch.no_grad():
        neck[0].bias.normal_()
        neck[1].weight.uniform_(0.5, 1.5)
        neck[1].bias.normal_()
    weight, bias = neck[0].weight.tolist(), neck[0].bias.tolist()
    linear = torch.tensor([[dot(row, line) + b for line, b in zip(weight, bias, strict=True)] for row in x.tolist()])
    expected = batch_normed(linear, neck[1].weight, neck[1].bias).clamp(min=0)
    for each in neck(x):
        torch.testing.assert_close(each.detach(), expected, rtol=1e-3, atol=1e-4)
    assert neck.num_features == neck.embedding_size == 3


def test_bnneck_normalizes_only_bottleneck_and_embedding():
    x = vectors()
    neck = BNNeck(5)
    with torch.no_grad():
        neck.bn.weight.uniform_(0.5, 1.5)
    embedding, feature, bottleneck = neck(x)
    assert feature is x
    assert embedding is bottleneck
    torch.testing.assert_close(
        bottleneck.detach(), batch_normed(x, neck.bn.weight, torch.zeros(5)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("mode", [True, False])
def test_bnneck_embedding_is_before_or_after_norm(mode):
    x = vectors()
    before, after = (BNNeck(5, test).train(mode)(x) for test in ("before", "after"))
    assert before.embedding is before.feature
    assert after.embedding is after.bottleneck
    torch.testing.assert_close(before.bottleneck, after.bottleneck)


def test_bnneck_uses_training_statistics_in_evaluation():
    x = vectors(64)
    neck = BNNeck(5)
    for _ in range(200):
        neck(x)
    torch.testing.assert_close(
        neck.eval()(x).bottleneck.detach(), batch_normed(x, torch.ones(5), torch.zeros(5)), rtol=1e-2, atol=2e-2
    )


def test_bnneck_has_no_bias():
    neck = BNNeck(5)
    neck(vectors()).bottleneck.pow(3).sum().backward()
    assert neck.bn.bias.grad is None
    assert neck.bn.weight.grad.abs().min() > 0
    assert neck.bn.bias.abs().max() == 0


@pytest.mark.parametrize("make", [NoNeck, FCNeck])
def test_normalized_embedding_has_unit_length(make):
    """Only the embedding is normalized; losses use the original vector."""
    x = vectors()
    torch.manual_seed(0)
    neck = make(5, normalized=True)
    embedding, feature, bottleneck = neck(x)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(embedding, functional.normalize(feature))
    assert feature is bottleneck
    assert (feature.norm(dim=1) - 1).abs().max() > 0.1


def test_normalized_embedding_of_zeros_is_finite():
    x = torch.zeros(2, 5, requires_grad=True)
    embedding = NoNeck(5, normalized=True)(x).embedding
    embedding.sum().backward()
    assert embedding.abs().max() == 0
    assert x.grad.isfinite().all()


def test_invalid_values_raise():
    with pytest.raises(ValueError, match=r"neck\.test='between'"):
        BNNeck(5, test="between")


def test_cosine_classifier_returns_cosines():
    x = vectors()
    classifier = CosineClassifier(5, 4)
    expected = [
        [dot(row, line) / math.sqrt(dot(row, row) * dot(line, line)) for line in classifier.weight.tolist()]
        for row in x.tolist()
    ]
    torch.testing.assert_close(classifier(x).detach(), torch.tensor(expected))


def test_cosines_are_bounded_for_any_length():
    torch.manual_seed(0)
    classifier = CosineClassifier(64, 32)
    with torch.no_grad():
        classifier.weight[:4] *= torch.tensor([1e-4, 1e-2, 1e2, 1e4])[:, None]
    x = torch.cat([torch.randn(16, 64) * 1e4, classifier.weight.detach(), -classifier.weight.detach()])
    cosines = classifier(x)
    assert cosines.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(cosines[16:].detach().abs().amax(1), torch.ones(64))
    torch.testing.assert_close(classifier(100 * x), cosines)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cosines_are_fp32_under_autocast(dtype):
    classifier, x = CosineClassifier(5, 4), vectors().to(dtype)
    with torch.autocast("cpu", dtype):
        cosines = classifier(x)
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines, classifier(x.float()))


def test_cosine_classifier_of_zeros_has_finite_gradient():
    classifier, x = CosineClassifier(5, 4), torch.zeros(2, 5, requires_grad=True)
    classifier(x).sum().backward()
    assert x.grad.isfinite().all()
    assert classifier.weight.grad.isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
def test_linear_classifier(bias):
    x = vectors()
    classifier = LinearClassifier(5, 4, bias)
    assert (classifier.bias is not None) is bias
    expected = [[dot(row, line) for line in classifier.weight.tolist()] for row in x.tolist()]
    torch.testing.assert_close(classifier(x).detach(), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    weights = LinearClassifier(200, 200).weight
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)

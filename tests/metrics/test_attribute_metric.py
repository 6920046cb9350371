"""Scores of attributes against loops over attributes and over images."""

import math

import numpy as np
import pytest
import torch

from reidlit.metrics.attribute_metric import AttributeMetric


def drawn(images=60, attributes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(images, attributes, generator=generator)
    labels = (torch.rand(images, attributes, generator=generator) < 0.3).to(torch.int8)
    labels[torch.rand(images, attributes, generator=generator) < 0.2] = -1
    labels[:, 3] = labels[:, 3].clamp(max=0)  # nobody has it
    labels[7] = -1  # nothing is known of this image
    labels[8] = 0
    probability[8] = 0.1  # nothing to find, and nothing found
    return probability, labels


def of_images(probability, labels, threshold):
    """Mean accuracy, precision and recall over the images of which something is known."""
    rows = []
    for shares, row in zip(probability.tolist(), labels.tolist(), strict=True):
        known = [(share >= threshold, label == 1) for share, label in zip(shares, row, strict=True) if label >= 0]
        if not known:
            continue
        both = sum(found and there for found, there in known)
        either = sum(found or there for found, there in known)
        found, there = (sum(pair[side] for pair in known) for side in (0, 1))
        if not either:
            rows.append((1, 1, 1))
        else:
            rows.append((both / either, both / found if found else 0, both / there if there else 0))
    return np.mean(rows, axis=0), len(rows)


def of_attribute(shares, labels, threshold):
    """Mean of the recalls of positives and negatives, accuracy, precision, recall, F1; NaN where nothing tells."""
    pairs = [(share >= threshold, label == 1) for share, label in zip(shares, labels, strict=True) if label >= 0]
    tp, fp, fn, tn = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
    nan = math.nan
    recall, specificity = tp / (tp + fn) if tp + fn else nan, tn / (tn + fp) if tn + fp else nan
    precision = tp / (tp + fp) if tp + fp else (0 if tp + fn else nan)
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else nan
    accuracy = (tp + tn) / len(pairs) if pairs else nan
    return (recall + specificity) / 2, accuracy, precision, recall, f1


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_scores_are_those_of_loops(threshold):
    probability, labels = drawn()
    metric = AttributeMetric(5, threshold)
    for part in torch.arange(60).split(17):
        metric.update(probability[part], labels[part])
    scores = metric.compute()
    (accuracy, precision, recall), count = of_images(probability, labels, threshold)
    assert (scores.accuracy, scores.precision, scores.recall) == pytest.approx((accuracy, precision, recall))
    assert scores.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert scores.num_images == count == 59
    expected = [of_attribute(probability[:, a].tolist(), labels[:, a].tolist(), threshold) for a in range(5)]
    np.testing.assert_allclose(np.array(scores.each[:5]).T, expected)
    assert np.isnan(scores.each.mA).tolist() == [False, False, False, True, False]
    assert scores.mA == pytest.approx(np.nanmean([row[0] for row in expected]))
    assert scores.each.num_known.tolist() == (labels >= 0).sum(0).tolist()
    named = scores.by_attribute(["a", "b", "c", "d", "e"])
    assert named["attributes/b/precision"] == scores.each.precision[1]
    assert named["attributes/d/num_positive"] == 0


def test_a_constant_prediction_has_half_the_mean_accuracy():
    probability, labels = drawn()
    for constant in (0.1, 0.9):
        metric = AttributeMetric(5)
        metric.update(torch.full_like(probability, constant), labels)
        assert metric.compute().mA == 0.5


def test_ranks_that_share_the_images_give_exactly_the_same():
    """The states are counts, which torchmetrics adds up over ranks."""
    probability, labels = drawn(images=301)
    whole, parts = AttributeMetric(5), [AttributeMetric(5) for _ in range(3)]
    whole.update(probability, labels)
    for rank, part in enumerate(parts):
        part.update(probability[rank::3], labels[rank::3])
    together = AttributeMetric(5)
    for name, reduction in together._reductions.items():
        setattr(together, name, reduction(torch.stack([getattr(part, name) for part in parts])))
    together._update_count = 1
    np.testing.assert_equal(whole.compute(), together.compute())


def test_nothing_known_is_nan_and_not_a_score():
    metric = AttributeMetric(2)
    metric.update(torch.full((3, 2), 0.7), torch.full((3, 2), -1))
    scores = metric.compute()
    assert scores.num_images == 0
    assert all(math.isnan(value) for value in scores.as_dict().values())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="threshold=1"):
        AttributeMetric(2, 1)
    with pytest.raises(ValueError, match="num_attributes=0"):
        AttributeMetric(0)
    metric = AttributeMetric(2)
    with pytest.raises(ValueError, match=r"\(3, 2\) and attributes \(3, 1\)"):
        metric.update(torch.zeros(3, 2), torch.zeros(3, 1))
    for wrong in (math.nan, -2.5):
        with pytest.raises(ValueError, match="NaN or outside 0 to 1"):
            metric.update(torch.tensor([[0.5, wrong]]), torch.tensor([[1, 1]]))

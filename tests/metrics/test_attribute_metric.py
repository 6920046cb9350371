"""Attribute scores against naive loops over attributes and over images."""

import math

import numpy as np
import pytest
import torch

from reidlit.metrics.attribute_metric import AttributeMetric


def random_predictions(images=60, attributes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(images, attributes, generator=generator)
    labels = (torch.rand(images, attributes, generator=generator) < 0.3).to(torch.int8)
    labels[torch.rand(images, attributes, generator=generator) < 0.2] = -1
    labels[:, 3] = labels[:, 3].clamp(max=0)  # an attribute without positives
    labels[7] = -1  # an image without labels
    labels[8] = 0
    probability[8] = 0.1  # an image without true and without predicted attributes
    return probability, labels


def naive_image_scores(probability, labels, threshold):
    """Mean accuracy, precision and recall over the images with labels."""
    rows = []
    for image_probability, image_labels in zip(probability.tolist(), labels.tolist(), strict=True):
        known = [
            (value >= threshold, label == 1)
            for value, label in zip(image_probability, image_labels, strict=True)
            if label >= 0
        ]
        if not known:
            continue
        both = sum(predicted and true for predicted, true in known)
        either = sum(predicted or true for predicted, true in known)
        num_predicted, num_true = (sum(pair[side] for pair in known) for side in (0, 1))
        if not either:
            rows.append((1, 1, 1))
        else:
            rows.append(
                (both / either, both / num_predicted if num_predicted else 0, both / num_true if num_true else 0)
            )
    return np.mean(rows, axis=0), len(rows)


def naive_attribute_scores(probability, labels, threshold):
    """Mean accuracy, accuracy, precision, recall and F1 of one attribute; NaN for undefined scores."""
    pairs = [(value >= threshold, label == 1) for value, label in zip(probability, labels, strict=True) if label >= 0]
    tp, fp, fn, tn = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
    nan = math.nan
    recall, specificity = tp / (tp + fn) if tp + fn else nan, tn / (tn + fp) if tn + fp else nan
    precision = tp / (tp + fp) if tp + fp else (0 if tp + fn else nan)
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else nan
    accuracy = (tp + tn) / len(pairs) if pairs else nan
    return (recall + specificity) / 2, accuracy, precision, recall, f1


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_scores_equal_naive_loops(threshold):
    probability, labels = random_predictions()
    metric = AttributeMetric(5, threshold)
    for rows in torch.arange(60).split(17):
        metric.update(probability[rows], labels[rows])
    scores = metric.compute()
    (accuracy, precision, recall), count = naive_image_scores(probability, labels, threshold)
    assert (scores.accuracy, scores.precision, scores.recall) == pytest.approx((accuracy, precision, recall))
    assert scores.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert scores.num_images == count == 59
    expected = [naive_attribute_scores(probability[:, a].tolist(), labels[:, a].tolist(), threshold) for a in range(5)]
    np.testing.assert_allclose(np.array(scores.each[:5]).T, expected)
    assert np.isnan(scores.each.mA).tolist() == [False, False, False, True, False]
    assert scores.mA == pytest.approx(np.nanmean([row[0] for row in expected]))
    assert scores.each.num_known.tolist() == (labels >= 0).sum(0).tolist()
    named = scores.by_attribute(["a", "b", "c", "d", "e"])
    assert named["attributes/b/precision"] == scores.each.precision[1]
    assert named["attributes/d/num_positive"] == 0


def test_constant_prediction_has_mean_accuracy_one_half():
    probability, labels = random_predictions()
    for constant in (0.1, 0.9):
        metric = AttributeMetric(5)
        metric.update(torch.full_like(probability, constant), labels)
        assert metric.compute().mA == 0.5


def test_scores_over_several_processes_equal_single_process():
    """torchmetrics sums the counts of all processes."""
    probability, labels = random_predictions(images=301)
    single, ranks = AttributeMetric(5), [AttributeMetric(5) for _ in range(3)]
    single.update(probability, labels)
    for rank, metric in enumerate(ranks):
        metric.update(probability[rank::3], labels[rank::3])
    gathered = AttributeMetric(5)
    for name, reduction in gathered._reductions.items():
        setattr(gathered, name, reduction(torch.stack([getattr(metric, name) for metric in ranks])))
    gathered._update_count = 1
    np.testing.assert_equal(single.compute(), gathered.compute())


def test_scores_without_labels_are_nan():
    metric = AttributeMetric(2)
    metric.update(torch.full((3, 2), 0.7), torch.full((3, 2), -1))
    scores = metric.compute()
    assert scores.num_images == 0
    assert all(math.isnan(value) for value in scores.as_dict().values())


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="threshold=1"):
        AttributeMetric(2, 1)
    with pytest.raises(ValueError, match="num_attributes=0"):
        AttributeMetric(0)
    metric = AttributeMetric(2)
    with pytest.raises(ValueError, match=r"probability.*\(3, 2\).*attributes.*\(3, 1\)"):
        metric.update(torch.zeros(3, 2), torch.zeros(3, 1))
    for invalid in (math.nan, -2.5):
        with pytest.raises(ValueError, match="probability"):
            metric.update(torch.tensor([[0.5, invalid]]), torch.tensor([[1, 1]]))

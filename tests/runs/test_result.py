"""Results of runs and their flat metric names."""

import pytest

from reidlit.runs.result import RunResult, TestResult, metric_name

TEST = TestResult("test", "market1501", {"mAP": 0.75, "rank1": 0.9, "protocol": "256 x 128", "cmc": [0.9, 0.95]})
ATTRIBUTES = TestResult("test", "pa100k", {"mA": 0.8, "attributes/hat/mA": 0.7})
VALIDATION = TestResult("val", None, {"mAP": 0.5})


def test_flat_names_of_metrics():
    assert metric_name("test", "mAP", "market1501") == "test/market1501/mAP"
    assert metric_name("val", "mAP") == "val/mAP"
    assert TEST.named("rank1") == "test/market1501/rank1"
    assert (TEST.prefix, VALIDATION.prefix) == ("test/market1501", "val")


def test_result_survives_json_round_trip():
    untrained = TestResult("untrained", "market1501", {"mAP": 0.1})
    result = RunResult((TEST, ATTRIBUTES), VALIDATION, (untrained,))
    metrics = result.to_json()
    assert metrics["test/pa100k/attributes/hat/mA"] == 0.7
    assert next(iter(metrics)) == "untrained/market1501/mAP"
    assert RunResult.from_json(metrics) == result


@pytest.mark.parametrize(
    ("result", "score"),
    [
        (RunResult((TEST,)), 0.75),
        (RunResult((ATTRIBUTES,)), 0.8),
        (RunResult((TEST,), VALIDATION), 0.5),
        (RunResult((TestResult("test", "x", {"num_queries": 3}), TEST)), 0.75),
        (RunResult((TestResult("test", "x", {"mA": None}),)), None),
        (RunResult(), None),
    ],
)
def test_score_is_the_metric_that_sweeps_maximize(result, score):
    assert result.score == score


def test_metric_with_headline_as_suffix_is_not_the_score():
    result = RunResult.from_json({"test/x/attributes/hat/mAP": 0.1, "test/x/mAP": 0.6})
    assert result.score == 0.6

"""Printed tables and written files of test results."""

import json

import numpy as np
import pytest
from pyarrow import parquet

from helpers.cli_settings import TINY
from reidlit.runs.metric_values import protocol_line


@pytest.fixture
def test_run(reidlit, trained, tmp_path):
    """Function that runs `reidlit test` on the checkpoint and returns its output, metrics and per-query table."""

    def run(*options):
        folder = tmp_path / f"t{len(list(tmp_path.iterdir()))}"
        result = reidlit(
            "test", *TINY, f"ckpt_path={trained}/checkpoints/last.ckpt", f"hydra.run.dir={folder}", *options
        )
        assert result.status == 0, result.err
        text = (folder / "metrics.json").read_text()
        assert "NaN" not in text
        assert "Infinity" not in text
        return result.out, json.loads(text), parquet.read_table(folder / "per_query.parquet").to_pydict()

    return run


def distances(table):
    """Distances of each query to its ranked list, which are more sensitive to changed embeddings than the scores."""
    return np.array(table["distance"])


def test_results_are_printed_and_written(test_run):
    printed, metrics, table = test_run()
    for text in ("mAP", "rank20", "TPR@FPR=1e-04", "12 of 12", "64 x 32", "euclidean", "AP: step"):
        assert text in printed, text
    assert "excluded" not in printed
    test = {name.removeprefix("test/synthetic/"): value for name, value in metrics.items()}
    low, high = test["intervals"]["mAP"]
    assert low <= test["mAP"] <= high
    assert test["cmc"][0] == test["rank1"]
    assert test["camera_pairs"]["mAP"][0][0] is None  # no matches from the camera of the query
    assert test["roc"]["fpr"][-1] == test["roc"]["tpr"][-1] == 1
    assert len(test["roc"]["fpr"]) == len(test["roc"]["threshold"])
    assert set(test["thresholds"]) == {"FPR=1e-04", "FPR=1e-03", "EER"}

    assert set(table["dataset"]) == {"synthetic"}
    assert np.mean(table["ap"]) == pytest.approx(test["mAP"])
    assert np.mean(np.array(table["first_match"]) == 1) == pytest.approx(test["rank1"])
    assert all(path.endswith(".jpg") for path in table["path"])
    pid_of = [int(path.rsplit("/", 1)[1].split("_")[0]) for path in table["path"]]
    assert pid_of == table["pid"]


def test_nearest_contains_gallery_indices(test_run):
    _, _, table = test_run()
    indices = {index for row in table["nearest"] for index in row if index >= 0}
    assert indices == set(range(24))  # 6 identities, 2 cameras, 3 shots, one of which is the query
    for pid, first, row in zip(table["pid"], table["first_match"], table["nearest"], strict=True):
        # The gallery is sorted by identity, camera and shot, with four images per identity.
        pids = [6 + index // 4 for index in row if index >= 0]
        assert pids.index(pid) == first - 1


@pytest.mark.slow
def test_flip_postprocessing_and_protocol_are_applied_and_recorded(test_run):
    plain = distances(test_run()[2])
    is_valid = np.isfinite(plain)  # the gallery is shorter than the lists
    printed, _, table = test_run("eval.flip=true")
    assert np.abs(distances(table) - plain)[is_valid].max() > 1e-3 * plain[is_valid].max()
    assert "flip averaged" in printed
    printed, metrics, table = test_run(
        "eval.postprocess=[alpha_query_expansion,k_reciprocal]", "eval.steps.k_reciprocal.k1=7"
    )
    expected = (
        "QueryExpansion(k=5, alpha=3, expand_gallery=False), KReciprocal(k1=7, k2=6, lambda_value=0.3, exponent=2)"
    )
    assert expected in metrics["test/synthetic/protocol"]
    assert "KReciprocal(k1=7" in printed
    assert np.abs(distances(table) - plain)[is_valid].max() > 1e-3 * plain[is_valid].max()
    printed, metrics, table = test_run("eval.protocol=centroid")
    assert "protocol: centroid" in " ".join(printed.split())
    assert "nearest" not in table
    assert "ranked lists" not in printed


def test_multi_query_writes_one_row_per_averaged_query(test_run):
    _, metrics, table = test_run("eval.protocol=multi_query")
    assert metrics["test/synthetic/num_queries"] == len(table["ap"]) == 12
    assert "path" in table  # there is one query per identity and camera, so each row is still an image


def test_verification_can_be_disabled(test_run):
    printed, metrics, _ = test_run("eval.verification=false")
    assert "AUC" not in printed
    assert "test/synthetic/AUC" not in metrics
    assert "test/synthetic/roc" not in metrics


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("eval.postprocess=[k_reciprocl]", ["k_reciprocl", "k_reciprocal", "gnn"]),
        ("eval.steps.gnn.k1=0", []),
        ("eval.ap=area", ["ap='area'", "step, trapezoid"]),
    ],
)
def test_invalid_evaluation_options_are_reported(reidlit, trained, option, expected):
    result = reidlit("test", *TINY, f"ckpt_path={trained}/checkpoints/last.ckpt", option)
    if expected:
        assert result.status == 1
        for text in expected:
            assert text in result.err
    else:
        assert result.status == 0  # unused steps are not built


def test_protocol_line_distinguishes_camera_aware_models():
    camera_aware, plain = (protocol_line({}, (256, 128), uses_cameras) for uses_cameras in (True, False))
    assert len(camera_aware.split("; ")) == len(plain.split("; ")) + 1
    assert set(plain.split("; ")) < set(camera_aware.split("; "))

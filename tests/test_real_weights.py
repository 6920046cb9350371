"""Published weights on the real benchmark; skipped if either is not available.

Set REIDLIT_DATA to the folder with market1501, and REIDLIT_WEIGHTS to the folder with osnet_x0_25_market1501.pth.
"""

import json
import os
from pathlib import Path

import pytest
import torch

import reidlit as package

DATA = Path(os.environ.get("REIDLIT_DATA", "data"))
WEIGHTS = Path(os.environ.get("REIDLIT_WEIGHTS", "data")) / "osnet_x0_25_market1501.pth"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the published weights are not available")
def test_published_weights_load_completely():
    model = package.build_model("osnet_x0_25", num_classes=751)
    report = package.load_weights(model, WEIGHTS)
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), {})
    assert torch.isfinite(model.eval()(torch.zeros(1, 3, 256, 128)).embedding).all()


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not (WEIGHTS.is_file() and (DATA / "market1501").is_dir()),
    reason="Market-1501 or the published weights are not available",
)
@pytest.mark.parametrize(
    ("options", "rank1", "mAP"),
    [
        (["eval.metric=euclidean"], 0.9118, 0.7494),
        (["eval.metric=cosine"], 0.9148, 0.7739),
        (["eval.postprocess=[k_reciprocal]"], 0.9302, 0.8926),
        (["eval.postprocess=[k_reciprocal]", "eval.steps.k_reciprocal.exponent=4"], 0.9290, 0.8940),
    ],
)
def test_published_accuracy_is_reproduced(options, rank1, mAP, tmp_path, monkeypatch):
    import sys

    from reidlit import cli

    arguments = [
        "data=market1501",
        f"data.root={DATA.resolve()}",
        f"weights={WEIGHTS.resolve()}",
        *options,
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reidlit", "test", *arguments, f"hydra.run.dir={tmp_path}/run"])
    cli.main()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test/market1501/rank1"] == pytest.approx(rank1, abs=5e-4)
    assert metrics["test/market1501/mAP"] == pytest.approx(mAP, abs=5e-4)
    if options == ["eval.metric=euclidean"]:
        assert metrics["test/market1501/mINP"] == pytest.approx(0.37, abs=5e-4)

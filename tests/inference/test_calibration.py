"""Calibrated thresholds and verification."""

import json

import pytest
import torch

from reidlit.inference.calibration import Calibration, store, stored, verify

CURVE = {"fpr": [1e-6, 1e-3, 0.1, 1.0], "threshold": [None, 2.0, 3.0, 9.0]}


def calibration():
    return Calibration.of_test("market1501", {"mAP": 0.5, "roc": CURVE}, {"metric": "cosine", "flip": True})


def test_thresholds_from_roc_curve():
    thresholds = calibration()
    assert (thresholds.dataset, thresholds.metric, thresholds.normalize, thresholds.flip) == (
        "market1501",
        "cosine",
        False,
        True,
    )
    assert [thresholds.at(fpr) for fpr in (1e-3, 0.05, 0.1, 1.0)] == [2.0, 2.0, 3.0, 9.0]
    with pytest.raises(ValueError, match=r"fpr=1e-05.*market1501.*0\.001"):
        thresholds.at(1e-5)
    with pytest.raises(ValueError, match="fpr=0 "):
        thresholds.at(0)
    assert Calibration.of_test("market1501", {"mAP": 0.5}, {}) is None
    assert Calibration.of_test("a", {"roc": CURVE}, {"postprocess": ["k_reciprocal"]}) is None


def test_checkpoint_stores_calibration(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, path)
    assert stored(path) is None
    store(path, calibration())
    assert stored(path) == calibration()
    assert torch.load(path, weights_only=True)["epoch"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_json_file_stores_calibration(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(calibration().as_dict()))
    assert stored(path) == calibration()
    for invalid in ("[1]", "{", '{"dataset": "x"}'):
        path.write_text(invalid)
        with pytest.raises(ValueError, match=r"calibration\.json"):
            stored(path)
    with pytest.raises(FileNotFoundError, match=r"calibration=.*missing\.json"):
        stored(tmp_path / "missing.json")


def test_verify_compares_distance_with_threshold():
    class Extractor:
        def __call__(self, images, camids):
            assert camids is None
            return torch.tensor(images)

    verdict = verify(Extractor(), [0.0, 0.0], [3.0, 4.0], threshold=25.0)
    assert verdict == (True, 25.0, 25.0)
    assert not verify(Extractor(), [0.0, 0.0], [3.0, 4.0], threshold=24.9).same
    assert verify(Extractor(), [1.0, 0.0], [0.0, 1.0], 1.0, "cosine").distance == pytest.approx(1.0)

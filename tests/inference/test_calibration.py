"""Thresholds, and what they decide."""

import json

import pytest
import torch

from reidlit.inference.calibration import Calibration, store, stored, verify

CURVE = {"fpr": [1e-6, 1e-3, 0.1, 1.0], "threshold": [None, 2.0, 3.0, 9.0]}


def calibration():
    return Calibration.of_test("market1501", {"mAP": 0.5, "roc": CURVE}, {"metric": "cosine", "flip": True})


def test_thresholds_of_a_test():
    found = calibration()
    assert (found.dataset, found.metric, found.normalize, found.flip) == ("market1501", "cosine", False, True)
    assert [found.at(fpr) for fpr in (1e-3, 0.05, 0.1, 1.0)] == [2.0, 2.0, 3.0, 9.0]
    with pytest.raises(ValueError, match=r"fpr=1e-05 is below what market1501 can tell.*least is 0\.001"):
        found.at(1e-5)
    with pytest.raises(ValueError, match="above 0"):
        found.at(0)
    assert Calibration.of_test("market1501", {"mAP": 0.5}, {}) is None
    assert Calibration.of_test("a", {"roc": CURVE}, {"postprocess": ["k_reciprocal"]}) is None


def test_a_checkpoint_keeps_them(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": 3}, path)
    assert stored(path) is None
    store(path, calibration())
    assert stored(path) == calibration()
    assert torch.load(path, weights_only=True)["epoch"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_json_file_keeps_them(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(calibration().as_dict()))
    assert stored(path) == calibration()
    for bad in ("[1]", "{", '{"dataset": "x"}'):
        path.write_text(bad)
        with pytest.raises(ValueError, match="is no calibration"):
            stored(path)
    with pytest.raises(FileNotFoundError, match="reidlit test writes it"):
        stored(tmp_path / "missing.json")


def test_the_distance_decides():
    class Extractor:
        def __call__(self, images, camids):
            assert camids is None
            return torch.tensor(images)

    verdict = verify(Extractor(), [0.0, 0.0], [3.0, 4.0], threshold=25.0)
    assert verdict == (True, 25.0, 25.0)
    assert not verify(Extractor(), [0.0, 0.0], [3.0, 4.0], threshold=24.9).same
    assert verify(Extractor(), [1.0, 0.0], [0.0, 1.0], 1.0, "cosine").distance == pytest.approx(1.0)

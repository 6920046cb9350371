"""`reidlit verify`."""

import json
import shutil

import pytest

from helpers.cli_settings import TINY


@pytest.fixture
def images(drawn, tmp_path):
    folder = next(drawn.glob("synthetic/*"))
    shutil.copy(folder / "0007_c1_00.jpg", tmp_path / "it's a.jpg")
    return ["it's a.jpg", str(folder / "0007_c1_01.jpg"), str(folder / "0009_c2_01.jpg")]


def test_training_stores_thresholds(trained, images, reidlit):
    checkpoint = f"ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    done = reidlit("verify", images[0], images[1], checkpoint, "fpr=0.5")
    assert done.status == 0, done.err
    assert all(text in done.out for text in ("0.5", "synthetic"))
    found = json.loads(reidlit("verify", images[0], images[1], checkpoint, "fpr=0.5", "json=true").out)
    assert found["same"] == (found["distance"] <= found["threshold"])
    assert f"{found['distance']:.4g}" in done.out
    assert ("same person" in done.out) == found["same"]
    again = json.loads(reidlit("verify", images[0], images[0], checkpoint, "fpr=0.5", "json=true").out)
    assert again["same"]
    assert again["distance"] < 0.01 * found["distance"]


def test_last_is_the_newest_checkpoint_of_the_current_folder(trained, images, reidlit, tmp_path):
    shutil.copytree(trained, tmp_path / "runs" / "train" / "first")
    assert reidlit("verify", images[0], images[1], "ckpt_path=last").status == 0


@pytest.mark.slow
def test_calibrate_stores_thresholds_in_checkpoint(trained, images, reidlit, tmp_path):
    copy = tmp_path / "copy.ckpt"
    shutil.copy(trained / "checkpoints" / "last.ckpt", copy)
    run = [*TINY, f"ckpt_path={copy}", "callbacks.progress=null", f"hydra.run.dir={tmp_path}/run", "eval.metric=cosine"]
    before = copy.read_bytes()
    assert reidlit("test", *run).status == 0
    assert copy.read_bytes() == before
    kept = json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert kept["metric"] == "cosine"
    assert reidlit("test", *run, "calibrate=true").status == 0
    assert "cosine" in reidlit("verify", *images[:2], f"ckpt_path={copy}", "fpr=0.5").out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a.jpg"], "a.jpg"),
        (["a.jpg", "b.jpg"], "threshold="),
        (["a.jpg", "b.jpg", "threshold=1"], "ckpt_path="),
        (["a.jpg", "b.jpg", "ckpt_path=CKPT", "threshold=1"], "a.jpg"),
        (["a.jpg", "b.jpg", "ckpt_path=CKPT", "fpr=1e-9"], "1e-09"),
    ],
)
def test_invalid_arguments_are_named(arguments, expected, trained, reidlit):
    done = reidlit("verify", *(item.replace("CKPT", str(trained / "checkpoints" / "last.ckpt")) for item in arguments))
    assert done.status == 1
    assert expected in done.err

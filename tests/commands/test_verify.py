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


def test_training_calibrates(trained, images, reidlit):
    checkpoint = f"ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    done = reidlit("verify", images[0], images[1], checkpoint, "fpr=0.5")
    assert done.status == 0, done.err
    assert "FPR 0.5 on synthetic" in done.out
    found = json.loads(reidlit("verify", images[0], images[1], checkpoint, "fpr=0.5", "json=true").out)
    assert found["same"] == (found["distance"] <= found["threshold"])
    assert ("the same person" in done.out) == found["same"]
    again = json.loads(reidlit("verify", images[0], images[0], checkpoint, "fpr=0.5", "json=true").out)
    assert again["same"]
    assert again["distance"] < 0.01 * found["distance"]


@pytest.mark.slow
def test_a_test_calibrates_a_checkpoint_on_request(trained, images, reidlit, tmp_path):
    copy = tmp_path / "copy.ckpt"
    shutil.copy(trained / "checkpoints" / "last.ckpt", copy)
    run = [*TINY, f"ckpt_path={copy}", "callbacks.progress=null", f"hydra.run.dir={tmp_path}/run", "eval.metric=cosine"]
    before = copy.read_bytes()
    assert reidlit("test", *run).status == 0
    assert copy.read_bytes() == before
    kept = json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert kept["metric"] == "cosine"
    assert reidlit("test", *run, "calibrate=true").status == 0
    for source in (f"ckpt_path={copy}",):
        assert "cosine distance" in reidlit("verify", *images[:2], source, "fpr=0.5").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.jpg"], "two images are compared, not 1"),
        (["a.jpg", "b.jpg"], "no threshold is known"),
        (["a.jpg", "b.jpg", "threshold=1"], "give ckpt_path="),
        (["a.jpg", "b.jpg", "ckpt_path=CKPT", "threshold=1"], "a.jpg"),
        (["a.jpg", "b.jpg", "ckpt_path=CKPT", "fpr=1e-9"], "below what synthetic can tell"),
    ],
)
def test_mistakes_are_named(arguments, words, trained, reidlit):
    done = reidlit("verify", *(item.replace("CKPT", str(trained / "checkpoints" / "last.ckpt")) for item in arguments))
    assert done.status == 1
    assert words in done.err

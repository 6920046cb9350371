"""Each invalid argument gives one clear message with a remedy, and no results."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.cli_settings import TINY, TRAIN


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["modelx=osnet_x1_0"], ["modelx"]),
        (["model=osnet_x9"], ["osnet_x9", "osnet_x1_0"]),
        (["data.batch_sise=3"], ["batch_sise"]),
        (["data=market1501", "data.root=nowhere"], ["nowhere", "data=market1501"]),
        (["loss=triplet", "data.batch_size=10"], ["num_instances=4", "batch_size=10", "batch_size=8"]),
        (["data.batch_size=100"], ["batch_size=100", "36"]),
        (["weights=nowhere.pth"], ["nowhere.pth"]),
        (["ckpt_path=nowhere.ckpt"], ["nowhere.ckpt"]),
        (["ckpt_path=last"], ["ckpt_path=last"]),
        (["transforms.train=[resize,random_flop]"], ["random_flop", "random_flip"]),
        (["eval.metric=manhattan"], ["manhattan", "euclidean, cosine"]),
        (["model.pretrained=true"], ["pretrained=True", "weights=<file>"]),
        (["optimizer.new_layers=[head]"], ["head", "classifier"]),
        (["callbacks.freeze.epochs=1", "callbacks.freeze.open_layers=[fc]"], ["fc", "neck"]),
        (["data.val_fraction=0.01"], ["val_fraction=0.01"]),
        (["scheduler.warmup_epochs=9"], ["warmup_epochs=9", "max_epochs=2"]),
        (["data.num_test=12"], ["num_test=12"]),
        (["data.name=a/b"], ["data.name=a/b"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_invalid_train_arguments_are_named(arguments, expected, reidlit, tmp_path):
    result = reidlit("train", *TRAIN[: 0 if "data=market1501" in arguments else None], *arguments, "hydra.run.dir=run")
    assert result.status == 1
    assert all(text in result.err for text in expected), result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.rglob("metrics.json"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_weights_of_another_architecture_are_refused(reidlit, tmp_path, torchreid_model):
    torch.save(torchreid_model("osnet_x0_5").state_dict(), tmp_path / "half.pth")
    result = reidlit("train", *TRAIN, "weights=half.pth")
    assert result.status == 1
    assert "half.pth" in result.err


def test_checkpoint_of_another_architecture_is_refused(trained, reidlit):
    result = reidlit("train", *TRAIN, "model=osnet_x0_5", f"ckpt_path={trained}/checkpoints/last.ckpt")
    assert result.status == 1
    assert f"ckpt_path={trained}/checkpoints/last.ckpt" in result.err
    assert len(result.err) < 1500


def test_corrupt_image_is_named(reidlit, tmp_path):
    folder = tmp_path / "data" / "market1501" / "bounding_box_train"
    folder.mkdir(parents=True)
    for pid in range(1, 5):
        Image.fromarray(np.full((64, 32, 3), 9, np.uint8)).save(folder / f"{pid:04d}_c1s1_000451_03.jpg")
    bad = folder / "0003_c1s1_000451_03.jpg"
    bad.write_bytes(bad.read_bytes()[:100])
    for workers in (0, 1):
        arguments = ["data=market1501", "data.root=data", "data.batch_size=4", f"data.num_workers={workers}"]
        result = reidlit("train", *arguments, "callbacks.progress=null", "trainer.max_epochs=1")
        assert result.status == 1
        assert result.err.strip().splitlines()[-1].startswith("reidlit train: ")
        assert str(bad.relative_to(tmp_path)) in result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "ckpt_path"),
        (["weights=a.pth", "ckpt_path=b.ckpt"], "ckpt_path"),
        (["weights=a.pth"], "a.pth"),
    ],
)
def test_invalid_test_arguments_are_named(arguments, expected, reidlit):
    result = reidlit("test", *TINY, *arguments)
    assert result.status == 1
    assert expected in result.err


def test_unknown_command_is_named(reidlit):
    result = reidlit("tarin")
    assert result.status == 1
    assert "tarin" in result.err
    assert "train" in result.err


def test_hydra_full_error_shows_traceback(reidlit, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(FileNotFoundError):
        reidlit("train", *TRAIN, "weights=nowhere.pth")

"""`reidlit test`: checkpoints, weight files, and identical scores on any number of processes."""

import json

import pytest
import torch

from helpers.cli_settings import TINY
from helpers.nested import flat


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_checkpoint_reproduces_the_scores_of_training(trained, reidlit, tmp_path):
    size = [
        item for item in TINY if not item.startswith(("data.height", "data.width"))
    ]  # the checkpoint stores its image size
    result = reidlit("test", *size, f"ckpt_path={trained}/checkpoints/last.ckpt", f"hydra.run.dir={tmp_path}/t")
    assert result.status == 0, result.err
    expected = {name: value for name, value in metrics(trained).items() if name.startswith("test/")}
    assert flat(metrics(tmp_path / "t")) == pytest.approx(flat(expected))
    assert "test/synthetic" in result.out


def test_last_is_the_newest_checkpoint(trained, reidlit, tmp_path):
    result = reidlit("test", *TINY, "ckpt_path=last")
    assert result.status == 1
    assert "ckpt_path=last" in result.err
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / "runs" / "train" / "one").symlink_to(trained)
    assert reidlit("test", *TINY, "ckpt_path=last").status == 0


@pytest.mark.slow
def test_two_processes_give_the_same_scores(trained, process, reidlit, tmp_path):
    arguments = [
        *TINY,
        f"ckpt_path={trained}/checkpoints/last.ckpt",
        "callbacks.progress=null",
        "data.test_batch_size=5",
        "trainer.precision=64-true",  # the batch size changes how embeddings are rounded
    ]
    alone = reidlit("test", *arguments, f"hydra.run.dir={tmp_path}/one")
    assert alone.status == 0, alone.err
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    running = process("test", *arguments, *ddp, f"hydra.run.dir={tmp_path}/two")
    printed, _ = running.communicate(timeout=240)
    assert running.returncode == 0, printed
    assert flat(metrics(tmp_path / "two")) == pytest.approx(flat(metrics(tmp_path / "one")), rel=1e-9, abs=1e-12)
    assert (tmp_path / "two" / "ranked_lists" / "synthetic.png").is_file()


def test_torchreid_weights(reidlit, tmp_path, torchreid_model):
    torch.save(torchreid_model("osnet_x0_25", 751).state_dict(), tmp_path / "w.pth")
    result = reidlit(
        "test", *TINY, "model=osnet_x0_25", "weights=w.pth", "eval.metric=cosine", f"hydra.run.dir={tmp_path}/t"
    )
    assert result.status == 0, result.err
    assert "classifier.0.weight" in result.out  # reported, although a test does not use it
    assert 0 < metrics(tmp_path / "t")["test/synthetic/mAP"] < 1


def test_torchreid_checkpoint_is_refused_as_ckpt_path(reidlit, tmp_path, torchreid_model):
    torch.save({"state_dict": torchreid_model("osnet_x0_25").state_dict()}, tmp_path / "w.ckpt")
    result = reidlit("test", *TINY, "ckpt_path=w.ckpt")
    assert result.status == 1
    assert "weights=w.ckpt" in result.err


def test_weights_without_all_embedding_layers_are_refused(reidlit, tmp_path, torchreid_model):
    state = torchreid_model("osnet_x0_25").state_dict()
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("fc.")}, tmp_path / "w.pth")
    result = reidlit("test", *TINY, "weights=w.pth")
    assert result.status == 1
    assert "weights=w.pth" in result.err
    assert "neck.0.0.weight" in result.err

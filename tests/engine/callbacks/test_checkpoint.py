"""Checkpoints are written atomically and can be loaded without other files."""

import resource
import subprocess
import sys

import pytest
import torch

from reidlit.config import option
from reidlit.engine.callbacks.checkpoint import AtomicCheckpointIO
from reidlit.engine.reid import ReIDModule


@pytest.mark.slow
def test_full_disk_keeps_previous_checkpoint(tmp_path):
    """A limit of the file size simulates a full disk. It is set in another process, because it affects all files."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    code = f"""
import resource, signal, torch
from reidlit.engine.callbacks.checkpoint import AtomicCheckpointIO
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    AtomicCheckpointIO().save_checkpoint({{"weights": torch.zeros(100_000)}}, {str(path)!r})
except OSError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 50_000
    assert str(path) in printed
    assert "ckpt_path=last" in printed
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_module_is_rebuilt_from_checkpoint(tmp_path):
    module = ReIDModule(model=option("model", "osnet_x0_25"), pids=[3, 5, 8], image_size=[64, 32])
    module.hparams["image_size"] = [64, 32]
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.6.4",
    }
    torch.save(content, tmp_path / "m.ckpt")
    assert torch.load(tmp_path / "m.ckpt", weights_only=True)["hyper_parameters"]["pids"] == [3, 5, 8]
    loaded = ReIDModule.load_from_checkpoint(tmp_path / "m.ckpt")
    image = torch.randint(0, 256, (2, 3, 64, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(image), module.eval()(image))


def test_checkpoint_of_another_architecture_raises(tmp_path):
    module = ReIDModule(model=option("model", "osnet_x0_25"), pids=[0, 1])
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams) | {"model": option("model", "osnet_x0_5")},
        "pytorch-lightning_version": "2.6.4",
    }
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(ValueError, match=r"m\.ckpt"):
        ReIDModule.load_from_checkpoint(tmp_path / "m.ckpt")


def test_loading_a_checkpoint_does_not_download_pretrained_weights():
    """OSNet x0.25 has no pretrained weights, so building it with `pretrained=True` raises."""
    module = ReIDModule(model=option("model", "osnet_x0_25"), pids=[0, 1])
    pretrained = {**dict(module.hparams), "model": option("model", "osnet_x0_25") | {"pretrained": True}}
    with pytest.raises(ValueError, match="pretrained=True"):
        ReIDModule(**pretrained)
    checkpoint = {"hyper_parameters": pretrained}
    module.on_save_checkpoint(checkpoint)
    assert ReIDModule(**checkpoint["hyper_parameters"]).hparams["model"]["pretrained"] is False
    assert pretrained["model"]["pretrained"] is True

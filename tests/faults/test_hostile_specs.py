"""A checkpoint may have only harmless classes built, whatever it asks for."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from helpers.cli_settings import TRAIN
from reidlit import spec
from reidlit.config import CONFIG_DIR, option
from reidlit.engine.distillation import Teacher
from reidlit.engine.reid import ReIDModule
from reidlit.inference.loading import load_trained
from reidlit.spec import TARGET, check_saved, targets, trust

HARMFUL = [
    *("os.system", "posix.system", "subprocess.run", "builtins.exec", "shutil.rmtree", "pathlib.Path", "runpy.run_path"),
    # Of the allowed packages: what fetches, unpickles, compiles, or builds again, and what starts the program.
    *("torch.load", "torch.hub.load", "torch.jit.load", "torch.utils.cpp_extension.load", "torch.compile", "torch.nn.init.ones_"),
    *("timm.create_model", "timm.models.create_model", "timm.models.load_checkpoint", "timm.data.create_loader"),
    *("torchvision.models.get_model", "torchvision.datasets.utils.download_url", "torchvision.io.read_file"),
    *("reidlit.spec.locate", "reidlit.spec.build", "reidlit.spec.trust", "reidlit.cli.main", "reidlit.__main__.main"),
    *("reidlit.models.build.build", "reidlit.models.build.build_model", "reidlit.models.weights.read_checkpoint"),
    *("reidlit.engine.loggers.factory.wandb_logger", "reidlit.engine.distillation.Teacher", "reidlit.data.download.fetch"),
    # What their modules have imported is reached through them.
    *("reidlit.models.weights.Path", "reidlit.models.weights.torch", "reidlit.models.weights.torch.load"),
    *("reidlit.losses.metric_learning.import_module", "reidlit.engine.optim.create_optimizer_v2", "torch.nn.os.system"),
    *("hydra.utils.instantiate", "hydra.utils.get_method", "pytorch_lightning.Trainer", "numpy.load"),
    # No names of classes.
    *("", ".", "os", "torch.nn", "torch.nn.", "torch..nn.Linear", "torch.nn.Linear.__init__", "timm.models./../x.Net", 3, None),
]  # fmt: skip


def test_every_option_that_a_checkpoint_can_hold_is_harmless():
    found = set()
    for group in ("model", "loss", "optimizer", "scheduler", "eval"):
        for file in (CONFIG_DIR / group).rglob("*.yaml"):
            found |= set(targets(OmegaConf.to_container(OmegaConf.load(file))))
    assert len(found) > 60
    for target in (*found, "torch.nn.Identity", "timm.layers.Mlp", "torchvision.ops.MLP"):
        check_saved({"model": {TARGET: target}}, "a file")


@pytest.mark.parametrize("target", HARMFUL, ids=str)
def test_anything_else_is_refused(target):
    before = set(sys.modules)
    with pytest.raises(ValueError, match=r"a file asks to build|cannot be imported"):
        check_saved({"model": {"backbone": {TARGET: target}}}, "a file")
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert loaded <= {"torch", "timm", "torchvision", "reidlit"}


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that leaves a file when it is imported, and one when its class is built."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(folder)!r}, 'imported').touch()\n"
        f"class Net:\n    def __init__(self, **given):\n        Path({str(folder)!r}, 'built').touch()\n"
    )
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("evil", None)


def nested(place, target="evil.Net"):
    """Settings, and what lies beside them, with a harmful target somewhere."""
    bad, model = {TARGET: target}, option("model", "osnet_x0_25")
    return {
        "model": ({"model": bad}, {}),
        "backbone": ({"model": {**model, "backbone": bad}}, {}),
        "neck of a list": ({"model": {**model, "neck": [bad]}}, {}),
        "loss": ({"loss": {"losses": {"softmax": bad}}}, {}),
        "optimizer, which is built later": ({"optimizer": bad}, {}),
        "evaluation": ({"evaluation": {"postprocess": [bad]}}, {}),
        "peers": ({"peers": [bad]}, {}),
        "settings of old Lightning": ({}, {"hparams": {"peers": [bad]}}),
        "a constructor of Lightning's": ({"_instantiator": target}, {}),
    }[place]


PLACES = [
    *("model", "backbone", "neck of a list", "loss", "optimizer, which is built later", "evaluation", "peers"),
    *("settings of old Lightning", "a constructor of Lightning's"),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_imports_and_builds_nothing_of_others(place, checkpoint, evil):
    settings, beside = nested(place)
    path = checkpoint(beside=beside, **settings)
    for load in (ReIDModule.load_from_checkpoint, lambda file: Teacher(str(file), torch.device("cpu"))):
        with pytest.raises(ValueError, match=r"saved\.ckpt asks to build 'evil\.Net'.*REIDLIT_TRUST=evil"):
            load(path)
    if not beside:
        with pytest.raises(ValueError, match=r"saved\.ckpt asks to build 'evil\.Net'"):
            load_trained(path)
    assert [file.name for file in evil.iterdir()] == ["evil.py"]


def test_commands_refuse_it_too(checkpoint, evil, reidlit):
    settings, _ = nested("backbone")
    path = checkpoint(**settings)
    for command in (["test", *TRAIN[:-3]], ["extract", "images=."], ["export"]):
        result = reidlit(*command, f"ckpt_path={path}")
        assert result.status == 1
        assert "asks to build 'evil.Net'" in result.err
        assert "Traceback" not in result.err
    assert [file.name for file in evil.iterdir()] == ["evil.py"]


def test_a_content_that_is_nested_without_end_or_holds_itself_is_looked_through():
    deep = {TARGET: "os.system"}
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"os\.system"):
        check_saved(deep, "a file")
    round_about = {"model": {TARGET: "torch.nn.Identity"}}
    round_about["again"] = round_about
    check_saved(round_about, "a file")
    shared = {TARGET: "torch.nn.Identity"}
    assert list(targets([shared, shared, copy.copy(shared)])) == ["torch.nn.Identity"] * 2


OWN = """
from torch import nn
class Tiny(nn.Sequential):
    num_features = 8
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 8, 8), nn.ReLU())
"""


def test_own_classes_are_built_where_their_user_names_or_trusts_them(reidlit, tmp_path, monkeypatch):
    """A model of a user's own is trained and tested; without the options that name it, its checkpoint is refused."""
    monkeypatch.setattr(spec, "_trusted", set())
    (tmp_path / "own_model.py").write_text(OWN)
    (tmp_path / "model").mkdir()
    own = option("model", "osnet_x0_25") | {"backbone": {TARGET: "own_model.Tiny"}}
    own["pool"], own["neck"] = option("model/pool", "average"), option("model/neck", "no_neck")
    OmegaConf.save(OmegaConf.create(own), tmp_path / "model" / "mine.yaml")
    named = ["--config-dir", ".", "model=mine"]
    done = reidlit("train", *named, *TRAIN, "trainer.max_epochs=1", "logger=csv", "hydra.run.dir=run")
    assert done.status == 0, done.err
    test = [*TRAIN[:9], "callbacks.progress=null", "ckpt_path=run/checkpoints/last.ckpt"]
    tested = reidlit("test", *named, *test)
    assert tested.status == 0, tested.err

    spec._trusted.clear()  # as in another process
    refused = reidlit("test", *test)
    assert refused.status == 1
    assert "asks to build 'own_model.Tiny'" in refused.err
    assert all(way in refused.err for way in ("REIDLIT_TRUST=own_model", "reidlit.trust('own_model')", "--config-dir"))
    monkeypatch.syspath_prepend(tmp_path)
    path = Path("run/checkpoints/last.ckpt")
    for wrong in ("own", "own_model.Tin", "own_models"):
        monkeypatch.setenv("REIDLIT_TRUST", wrong)
        with pytest.raises(ValueError, match="asks to build"):
            load_trained(path)
    monkeypatch.setenv("REIDLIT_TRUST", "others, own_model")
    assert load_trained(path).model.embedding_size == 8
    monkeypatch.delenv("REIDLIT_TRUST")
    trust("own_model.Tiny")
    assert ReIDModule.load_from_checkpoint(path).model.embedding_size == 8
    sys.modules.pop("own_model", None)

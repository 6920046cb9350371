"""Loading a checkpoint builds only harmless classes, whatever it names."""

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
    # Functions of the allowed packages that download, unpickle, compile or build, and the entry points.
    *("torch.load", "torch.hub.load", "torch.jit.load", "torch.utils.cpp_extension.load", "torch.compile", "torch.nn.init.ones_"),
    *("timm.create_model", "timm.models.create_model", "timm.models.load_checkpoint", "timm.data.create_loader"),
    *("torchvision.models.get_model", "torchvision.datasets.utils.download_url", "torchvision.io.read_file"),
    *("reidlit.spec.locate", "reidlit.spec.build", "reidlit.spec.trust", "reidlit.cli.main", "reidlit.__main__.main"),
    *("reidlit.models.build.build", "reidlit.models.build.build_model", "reidlit.models.weights.read_checkpoint"),
    *("reidlit.engine.loggers.factory.wandb_logger", "reidlit.engine.distillation.Teacher", "reidlit.data.download.fetch"),
    # Objects that modules of the allowed packages have imported.
    *("reidlit.models.weights.Path", "reidlit.models.weights.torch", "reidlit.models.weights.torch.load"),
    *("reidlit.losses.metric_learning.import_module", "reidlit.engine.optim.create_optimizer_v2", "torch.nn.os.system"),
    *("hydra.utils.instantiate", "hydra.utils.get_method", "pytorch_lightning.Trainer", "numpy.load"),
    # Names that are not classes.
    *("", ".", "os", "torch.nn", "torch.nn.", "torch..nn.Linear", "torch.nn.Linear.__init__", "timm.models./../x.Net", 3, None),
]  # fmt: skip


def test_every_configured_target_is_allowed():
    configured = set()
    for group in ("model", "loss", "optimizer", "scheduler", "eval"):
        for file in (CONFIG_DIR / group).rglob("*.yaml"):
            configured |= set(targets(OmegaConf.to_container(OmegaConf.load(file))))
    assert len(configured) > 60
    for target in (*configured, "torch.nn.Identity", "timm.layers.Mlp", "torchvision.ops.MLP"):
        check_saved({"model": {TARGET: target}}, "a file")


@pytest.mark.parametrize("target", HARMFUL, ids=str)
def test_other_targets_are_refused(target):
    before = set(sys.modules)
    with pytest.raises(ValueError, match=r"a file|cannot be imported"):
        check_saved({"model": {"backbone": {TARGET: target}}}, "a file")
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert loaded <= {"torch", "timm", "torchvision", "reidlit"}


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """Write a module that creates one file when it is imported and another when its class is built."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(folder)!r}, 'imported').touch()\n"
        f"class Net:\n    def __init__(self, **options):\n        Path({str(folder)!r}, 'built').touch()\n"
    )
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("evil", None)


def nested(place, target="evil.Net"):
    """Return hyperparameters and other keys of a checkpoint, one of which contains a harmful target."""
    bad, model = {TARGET: target}, option("model", "osnet_x0_25")
    return {
        "model": ({"model": bad}, {}),
        "backbone": ({"model": {**model, "backbone": bad}}, {}),
        "list of necks": ({"model": {**model, "neck": [bad]}}, {}),
        "loss": ({"loss": {"losses": {"softmax": bad}}}, {}),
        "optimizer": ({"optimizer": bad}, {}),
        "evaluation": ({"evaluation": {"postprocess": [bad]}}, {}),
        "peers": ({"peers": [bad]}, {}),
        "hparams of old Lightning versions": ({}, {"hparams": {"peers": [bad]}}),
        "instantiator of Lightning": ({"_instantiator": target}, {}),
    }[place]


PLACES = [
    *("model", "backbone", "list of necks", "loss", "optimizer", "evaluation", "peers"),
    *("hparams of old Lightning versions", "instantiator of Lightning"),
]


@pytest.mark.parametrize("place", PLACES)
def test_checkpoint_never_imports_or_builds_untrusted_code(place, checkpoint, evil):
    settings, other_keys = nested(place)
    path = checkpoint(other_keys=other_keys, **settings)
    for load in (ReIDModule.load_from_checkpoint, lambda file: Teacher(str(file), torch.device("cpu"))):
        with pytest.raises(ValueError, match=r"saved\.ckpt.*'evil\.Net'.*REIDLIT_TRUST=evil"):
            load(path)
    if not other_keys:
        with pytest.raises(ValueError, match=r"saved\.ckpt.*'evil\.Net'"):
            load_trained(path)
    assert [file.name for file in evil.iterdir()] == ["evil.py"]


def test_commands_refuse_untrusted_checkpoint(checkpoint, evil, reidlit):
    settings, _ = nested("backbone")
    path = checkpoint(**settings)
    for command in (["test", *TRAIN[:-3]], ["extract", "images=."], ["export"]):
        result = reidlit(*command, f"ckpt_path={path}")
        assert result.status == 1
        assert "'evil.Net'" in result.err
        assert "Traceback" not in result.err
    assert [file.name for file in evil.iterdir()] == ["evil.py"]


def test_deeply_nested_and_recursive_content_is_checked():
    deep = {TARGET: "os.system"}
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"os\.system"):
        check_saved(deep, "a file")
    recursive = {"model": {TARGET: "torch.nn.Identity"}}
    recursive["again"] = recursive
    check_saved(recursive, "a file")
    shared = {TARGET: "torch.nn.Identity"}
    assert list(targets([shared, shared, copy.copy(shared)])) == ["torch.nn.Identity"] * 2


CUSTOM_MODEL = """
from torch import nn
class Tiny(nn.Sequential):
    num_features = 8
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 8, 8), nn.ReLU())
"""


def test_custom_classes_are_built_if_the_user_names_or_trusts_them(reidlit, tmp_path, monkeypatch):
    """A custom model trains and is tested; its checkpoint is refused without the options that name it."""
    monkeypatch.setattr(spec, "_trusted", set())
    (tmp_path / "custom_model.py").write_text(CUSTOM_MODEL)
    (tmp_path / "model").mkdir()
    spec_of_model = option("model", "osnet_x0_25") | {"backbone": {TARGET: "custom_model.Tiny"}}
    spec_of_model["pool"], spec_of_model["neck"] = option("model/pool", "average"), option("model/neck", "no_neck")
    OmegaConf.save(OmegaConf.create(spec_of_model), tmp_path / "model" / "mine.yaml")
    named = ["--config-dir", ".", "model=mine"]
    done = reidlit("train", *named, *TRAIN, "trainer.max_epochs=1", "logger=csv", "hydra.run.dir=run")
    assert done.status == 0, done.err
    test = [*TRAIN[:9], "callbacks.progress=null", "ckpt_path=run/checkpoints/last.ckpt"]
    tested = reidlit("test", *named, *test)
    assert tested.status == 0, tested.err

    spec._trusted.clear()  # as in another process
    refused = reidlit("test", *test)
    assert refused.status == 1
    assert "'custom_model.Tiny'" in refused.err
    assert all(
        remedy in refused.err
        for remedy in ("REIDLIT_TRUST=custom_model", "reidlit.trust('custom_model')", "--config-dir")
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = Path("run/checkpoints/last.ckpt")
    for wrong in ("custom", "custom_model.Tin", "custom_models"):
        monkeypatch.setenv("REIDLIT_TRUST", wrong)
        with pytest.raises(ValueError, match=r"custom_model\.Tiny"):
            load_trained(path)
    monkeypatch.setenv("REIDLIT_TRUST", "others, custom_model")
    assert load_trained(path).model.embedding_size == 8
    monkeypatch.delenv("REIDLIT_TRUST")
    trust("custom_model.Tiny")
    assert ReIDModule.load_from_checkpoint(path).model.embedding_size == 8
    sys.modules.pop("custom_model", None)

"""Deep mutual learning: networks that differ, their losses, and what a checkpoint holds."""

import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from reidlit.config import option
from reidlit.engine.mutual import MutualModule
from reidlit.engine.reid import ReIDModule
from reidlit.inference.loading import load_trained

OSNET, SHUFFLENET = option("model", "osnet_x0_25"), option("model", "shufflenet_v2_x0_5")
SOFTMAX = {"losses": {"softmax": {"_target_": "reidlit.losses.CrossEntropy"}}}
TRAINING = {
    "loss": SOFTMAX,
    "optimizer": option("optimizer", "sgd") | {"lr": 0.01},
    "scheduler": option("scheduler", "constant"),
}


def module(**changes):
    torch.manual_seed(0)
    settings = {"model": OSNET, "pids": [3, 5, 8], "image_size": [64, 32], "peers": [OSNET], **TRAINING}
    return MutualModule(**settings | changes)


def batch(seed=0):
    torch.manual_seed(seed)
    pid = torch.tensor([0, 0, 1, 2])
    return {"image": torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8), "pid": pid, "camid": pid, "index": pid}


def fit(trained, steps=3, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet | options)
    trainer.fit(trained, DataLoader([batch(step) for step in range(steps)], batch_size=None))
    return trainer


def states(trained):
    return [network.state_dict() for network in trained.networks]


def silent(trained):
    """Without a Trainer there is nothing to log to."""
    trained.log = trained.log_dict = lambda *_, **__: None
    trained._trainer = SimpleNamespace(current_epoch=0)
    return trained


def test_peers_differ_from_the_start_and_stay_different():
    """Whatever is drawn at random; and `model` starts as it would alone."""
    trained = module(peers=[OSNET, OSNET])
    drawn = [name for name, p in trained.model.named_parameters() if p.numel() > 1 and p.std() > 0]
    for moment in ("before", "after"):
        if moment == "after":
            fit(trained)
        first, second, third = states(trained)
        for name in drawn:
            assert not torch.equal(first[name], second[name]), (moment, name)
            assert not torch.equal(second[name], third[name]), (moment, name)
    torch.manual_seed(0)
    alone = ReIDModule(OSNET, [3, 5, 8], image_size=[64, 32])
    found = module().model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in alone.model.state_dict().items())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_loss_is_that_of_a_loop_and_its_gradient_leaves_the_others_alone(temperature):
    trained = silent(module(peers=[OSNET, SHUFFLENET], weight=0.7, temperature=temperature))
    given = batch()
    loss = trained.training_step(given, 0)["loss"]
    outputs = [network(given["image"]).logits[0] for network in trained.networks]
    shares = [(logits / temperature).softmax(1).tolist() for logits in outputs]
    expected = 0.0
    for own in range(3):
        expected += trained.loss(SimpleNamespace(logits=(outputs[own],)), given["pid"])[0].item()
        for other in {0, 1, 2} - {own}:
            pairs = [zip(*rows, strict=True) for rows in zip(shares[other], shares[own], strict=True)]
            divergence = sum(p * math.log(p / q) for row in pairs for p, q in row) / len(given["pid"])
            expected += 0.7 * temperature**2 * divergence / 2
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    # The gradient of a network is that of its own losses and its own divergence, with the others' predictions given.
    (found,) = torch.autograd.grad(loss, trained.model.classifier[0].bias)
    own = trained.loss(SimpleNamespace(logits=(outputs[0],)), given["pid"])[0]
    for other in outputs[1:]:
        target, answer = (other.detach() / temperature).softmax(1), (outputs[0] / temperature).log_softmax(1)
        own = own + 0.35 * temperature**2 * (target * (target.log() - answer)).sum(1).mean()
    torch.testing.assert_close(found, torch.autograd.grad(own, trained.model.classifier[0].bias)[0])


def test_all_networks_are_trained_and_logged_by_themselves():
    trained = module(peers=[SHUFFLENET], optimizer=TRAINING["optimizer"] | {"new_layers": ["classifier"]})
    before = [{name: tensor.clone() for name, tensor in state.items()} for state in states(trained)]
    trainer = fit(trained, precision="bf16-mixed", accumulate_grad_batches=2)
    for was, now in zip(before, states(trained), strict=True):
        weights = [name for name in was if name.endswith("weight")]
        assert not any(torch.equal(was[name], now[name]) for name in weights)
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([0.001, 0.01] * 2)
    logged = trainer.callback_metrics
    for name in ("loss", "softmax", "mutual", "accuracy"):
        assert f"train/{name}" in logged
        assert f"train/peer1/{name}" in logged
    assert logged["train/softmax"] != logged["train/peer1/softmax"]
    torch.testing.assert_close(logged["train/loss"], logged["train/softmax"] + logged["train/mutual"])


def test_logits_that_are_cosines_are_compared_at_the_scale_of_their_loss():
    spec = OSNET | {"classifier": option("model/classifier", "cosine")}
    loss = {"losses": {"arcface": {"_target_": "reidlit.losses.ArcFace", "scale": 20.0}}}
    trained, given = silent(module(model=spec, peers=[spec], loss=loss)), batch()
    seen = {}
    trained.log_step = lambda prefix, *_: seen.update({prefix: _[-1]["mutual"]})
    trained.training_step(given, 0)
    own, other = (20 * network(given["image"]).logits[0] for network in trained.networks)
    expected = (other.softmax(1) * (other.log_softmax(1) - own.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(seen["train"], expected)


def test_a_checkpoint_serves_the_deployed_network_alone_and_keeps_the_peers(tmp_path):
    trained = module(peers=[SHUFFLENET])
    trainer = fit(trained)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    assert {name.split(".")[0] for name in content["state_dict"]} == {"model"}
    image = batch()["image"]
    alone, whole = ReIDModule.load_from_checkpoint(path), MutualModule.load_from_checkpoint(path, ensemble=True)
    assert not hasattr(alone, "peers")
    with torch.no_grad():
        first, second = (network.eval().embed(image) for network in trained.networks)
        torch.testing.assert_close(alone.eval()(image), first)
        scale = first.abs().max()
        torch.testing.assert_close(load_trained(path).model.embed(image) / scale, first / scale, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(trained(image), first)
        unit = torch.nn.functional.normalize
        torch.testing.assert_close(whole.eval()(image), torch.cat([unit(first), unit(second)], 1))
    del content["peers"]
    torch.save(content, path)
    with pytest.raises(ValueError, match="holds one network"):
        MutualModule.load_from_checkpoint(path)


def test_peers_of_the_same_spec_start_from_a_weight_file_with_their_own_classifier(tmp_path):
    source = ReIDModule(OSNET, [3, 5, 8], image_size=[64, 32]).model
    torch.save(source.state_dict(), tmp_path / "start.pth")
    trained = module(peers=[OSNET, SHUFFLENET])
    drawn = trained.networks[1].classifier[0].weight.clone()
    said = trained.start_from(tmp_path / "start.pth")
    assert "peer 1: started alike" in said
    assert "peer 2: is of another spec" in said
    first, second, _ = states(trained)
    for name, tensor in source.state_dict().items():
        assert torch.equal(first[name], tensor)
        assert torch.equal(second[name], tensor) != (name == "classifier.0.weight")
    assert torch.equal(trained.networks[1].classifier[0].weight, drawn)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peers": []}, r"engine\.peers=\[\]"),
        ({"weight": -1}, r"engine\.weight=-1"),
        ({"temperature": 0}, "temperature=0"),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        module(**changes)

"""`MutualModule`: initialization of the networks, losses, evaluation and checkpoints."""

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
    """Replace the Trainer and the logging of a module, to call its training step directly."""
    trained.log = trained.log_dict = lambda *_, **__: None
    trained._trainer = SimpleNamespace(current_epoch=0)
    return trained


def test_networks_differ_before_and_after_training():
    """All random parameters differ, and `model` is initialized as without peers."""
    trained = module(peers=[OSNET, OSNET])
    random_names = [name for name, p in trained.model.named_parameters() if p.numel() > 1 and p.std() > 0]
    for moment in ("before", "after"):
        if moment == "after":
            fit(trained)
        first, second, third = states(trained)
        for name in random_names:
            assert not torch.equal(first[name], second[name]), (moment, name)
            assert not torch.equal(second[name], third[name]), (moment, name)
    torch.manual_seed(0)
    without_peers = ReIDModule(OSNET, [3, 5, 8], image_size=[64, 32])
    with_peers = module().model.state_dict()
    assert all(torch.equal(tensor, with_peers[name]) for name, tensor in without_peers.model.state_dict().items())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_loss_matches_loop_and_targets_get_no_gradient(temperature):
    trained = silent(module(peers=[OSNET, SHUFFLENET], weight=0.7, temperature=temperature))
    images = batch()
    loss = trained.training_step(images, 0)["loss"]
    logits = [network(images["image"]).logits[0] for network in trained.networks]
    probabilities = [(each / temperature).softmax(1).tolist() for each in logits]
    expected = 0.0
    for network in range(3):
        expected += trained.loss(SimpleNamespace(logits=(logits[network],)), images["pid"])[0].item()
        for other in {0, 1, 2} - {network}:
            pairs = [zip(*rows, strict=True) for rows in zip(probabilities[other], probabilities[network], strict=True)]
            divergence = sum(p * math.log(p / q) for row in pairs for p, q in row) / len(images["pid"])
            expected += 0.7 * temperature**2 * divergence / 2
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    # The gradient of a network comes from its own loss and divergence, with constant predictions of the other networks.
    bias = trained.model.classifier[0].bias
    (gradient,) = torch.autograd.grad(loss, bias)
    model_loss = trained.loss(SimpleNamespace(logits=(logits[0],)), images["pid"])[0]
    for other in logits[1:]:
        target, prediction = (other.detach() / temperature).softmax(1), (logits[0] / temperature).log_softmax(1)
        model_loss = model_loss + 0.35 * temperature**2 * (target * (target.log() - prediction)).sum(1).mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(model_loss, bias)[0])


def test_all_networks_are_trained_and_logged_separately():
    trained = module(peers=[SHUFFLENET], optimizer=TRAINING["optimizer"] | {"new_layers": ["classifier"]})
    initial = [{name: tensor.clone() for name, tensor in state.items()} for state in states(trained)]
    trainer = fit(trained, precision="bf16-mixed", accumulate_grad_batches=2)
    for before, after in zip(initial, states(trained), strict=True):
        weights = [name for name in before if name.endswith("weight")]
        assert not any(torch.equal(before[name], after[name]) for name in weights)
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([0.001, 0.01] * 2)
    logged = trainer.callback_metrics
    for name in ("loss", "softmax", "mutual", "accuracy"):
        assert f"train/{name}" in logged
        assert f"train/peer1/{name}" in logged
    assert logged["train/softmax"] != logged["train/peer1/softmax"]
    torch.testing.assert_close(logged["train/loss"], logged["train/softmax"] + logged["train/mutual"])


def test_cosines_are_scaled_before_they_are_compared():
    spec = OSNET | {"classifier": option("model/classifier", "cosine")}
    loss = {"losses": {"arcface": {"_target_": "reidlit.losses.ArcFace", "scale": 20.0}}}
    trained, images = silent(module(model=spec, peers=[spec], loss=loss)), batch()
    logged = {}
    trained.log_step = lambda prefix, *arguments: logged.update({prefix: arguments[-1]["mutual"]})
    trained.training_step(images, 0)
    logits, peer_logits = (20 * network(images["image"]).logits[0] for network in trained.networks)
    expected = (peer_logits.softmax(1) * (peer_logits.log_softmax(1) - logits.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(logged["train"], expected)


def test_checkpoint_contains_model_and_peers_separately(tmp_path):
    trained = module(peers=[SHUFFLENET])
    trainer = fit(trained)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    assert {name.split(".")[0] for name in content["state_dict"]} == {"model"}
    image = batch()["image"]
    single, ensemble = ReIDModule.load_from_checkpoint(path), MutualModule.load_from_checkpoint(path, ensemble=True)
    assert not hasattr(single, "peers")
    with torch.no_grad():
        first, second = (network.eval().embed(image) for network in trained.networks)
        torch.testing.assert_close(single.eval()(image), first)
        scale = first.abs().max()
        torch.testing.assert_close(load_trained(path).model.embed(image) / scale, first / scale, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(trained(image), first)
        unit = torch.nn.functional.normalize
        torch.testing.assert_close(ensemble.eval()(image), torch.cat([unit(first), unit(second)], 1))
    del content["peers"]
    torch.save(content, path)
    with pytest.raises(ValueError, match="engine=mutual"):
        MutualModule.load_from_checkpoint(path)


def test_weight_file_is_loaded_into_peers_with_the_same_spec(tmp_path):
    source = ReIDModule(OSNET, [3, 5, 8], image_size=[64, 32]).model
    torch.save(source.state_dict(), tmp_path / "start.pth")
    trained = module(peers=[OSNET, SHUFFLENET])
    peer_classifier = trained.networks[1].classifier[0].weight.clone()
    report = trained.start_from(tmp_path / "start.pth")
    assert "peer 1: " in report
    assert "peer 2: " in report
    first, second, third = states(trained)
    for name, tensor in source.state_dict().items():
        assert torch.equal(first[name], tensor)
        assert torch.equal(second[name], tensor) != (name == "classifier.0.weight")
    assert torch.equal(trained.networks[1].classifier[0].weight, peer_classifier)
    assert all(
        torch.equal(tensor, third[name])
        for name, tensor in module(peers=[OSNET, SHUFFLENET]).peers[1].state_dict().items()
    )


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"peers": []}, r"engine\.peers=\[\]"),
        ({"weight": -1}, r"engine\.weight=-1"),
        ({"temperature": 0}, "temperature=0"),
    ],
)
def test_invalid_arguments_raise(changes, pattern):
    with pytest.raises(ValueError, match=pattern):
        module(**changes)

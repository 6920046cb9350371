"""`ArchitectureSearchModule`: temperature schedule, optimizer, logging and search results."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from reidlit.config import option
from reidlit.engine.architecture_search import ArchitectureSearchModule
from reidlit.models.backbones.osnet_ain import BLOCKS, CANDIDATES

MODEL = option("model", "osnet_ain_search")
MODEL["backbone"]["width"] = 0.25
SGD = option("optimizer", "sgd")
TRAINING = {
    "loss": {"losses": {"softmax": {"_target_": "reidlit.losses.CrossEntropy"}}},
    "optimizer": SGD,
    "scheduler": option("scheduler", "constant"),
}


def module(seed=0, **changes):
    torch.manual_seed(seed)
    return ArchitectureSearchModule(**{"model": MODEL, "pids": [3, 5, 8], "image_size": [64, 32], **TRAINING} | changes)


def batch(seed=0, size=12):
    """Return a batch of three identities, each with bright images in one channel."""
    pid = torch.arange(size) % 3
    image = 0.3 * torch.randn(size, 3, 64, 32, generator=torch.Generator().manual_seed(seed))
    image[torch.arange(size), pid] += 1.5
    return {"image": image, "pid": pid, "camid": pid, "index": pid}


def fit(search, steps=2, size=4, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", enable_model_summary=False, **quiet | {"max_epochs": 1} | options)
    trainer.fit(search, DataLoader([batch(step, size) for step in range(steps)], batch_size=None))
    return trainer


def logits(search):
    return torch.stack([block.logits.detach() for block in search.space.positions.values()])


def test_temperature_decays_as_published_and_is_set_each_epoch():
    search = module()
    temperatures = [search.temperature_of(epoch) for epoch in (0, 19, 20, 39, 40, 60, 79, 80, 500)]
    assert temperatures == [10, 10, 5, 5, 2.5, 1.25, 1.25, 1, 1]
    assert module(temperature_decay=1).temperature_of(500) == 10
    search = module(temperature=8.0, decay_every=1, min_temperature=3.0)
    recorded = []

    class TemperatureRecorder(pl.Callback):
        def on_train_batch_start(self, *_):
            recorded.append([block.temperature.item() for block in search.space.positions.values()])

    trainer = fit(search, steps=1, max_epochs=3, callbacks=[TemperatureRecorder()])
    assert recorded == [[8.0] * 6, [4.0] * 6, [3.0] * 6]
    assert trainer.callback_metrics["search/temperature"] == 3


def test_entropies_and_probabilities_are_logged():
    search = module()
    logged = fit(search).callback_metrics
    assert 1.3 < logged["search/entropy"] < 1.3863
    entropies = torch.stack([logged[f"search/entropy/{name}"] for name in BLOCKS])
    torch.testing.assert_close(entropies, search.space.entropy)
    torch.testing.assert_close(logged["search/entropy"], entropies.mean())
    rows = [[logged[f"search/{name}/{candidate}"] for candidate in CANDIDATES] for name in BLOCKS]
    probabilities = torch.stack([torch.stack(row) for row in rows])
    torch.testing.assert_close(probabilities, logits(search).softmax(1))


@pytest.mark.parametrize("options", [{}, {"new_layers": ["classifier"]}, {"decay_norms": False}])
def test_optimizer_has_a_group_for_logits_without_weight_decay(options):
    search = module(optimizer=SGD | {"lr": 0.1} | options, architecture_lr=0.02)
    *weight_groups, logit_group = search.configure_optimizers()["optimizer"].param_groups
    assert [id(p) for p in logit_group["params"]] == [id(block.logits) for block in search.space.positions.values()]
    assert (logit_group["lr"], logit_group["weight_decay"]) == (0.02, 0.0)
    optimized = [id(p) for group in (*weight_groups, logit_group) for p in group["params"]]
    assert sorted(optimized) == sorted(id(p) for p in search.model.parameters())
    default = module(optimizer=SGD | {"lr": 0.1} | options).configure_optimizers()["optimizer"]
    assert default.param_groups[-1]["lr"] == 0.1


def test_loss_is_mean_over_samples():
    losses, gradients = [], []
    for samples in (2, 1):
        search, images = module(samples=samples), batch(size=4)
        search.log = search.log_dict = lambda *_, **__: None
        search._trainer = SimpleNamespace(current_epoch=0)
        torch.manual_seed(1)
        steps = [search.training_step(images, 0)["loss"] for _ in range(2 // samples)]
        loss = torch.stack(steps).mean()
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.stack([block.logits.grad for block in search.space.positions.values()]))
    assert not torch.equal(*steps)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_search_is_reproducible_with_the_same_seed():
    results = []
    for seed in (1, 1, 2):
        search = module()
        torch.manual_seed(seed)
        fit(search)
        results.append(logits(search))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


class Noise(nn.Module):
    """A block that returns noise, independent of its input."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return torch.randn(len(x), self.channels, *x.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize("best", ["plain", "residual"])
def test_search_finds_the_only_useful_candidate(best):
    search = module(optimizer=SGD | {"lr": 0.05}, architecture_lr=1.0, temperature=2.0)
    candidates = search.space.positions["conv4.1"].candidates
    channels = candidates[best].conv3.conv.out_channels
    for name in CANDIDATES:
        if name != best:
            candidates[name] = Noise(channels)
    fit(search, steps=30, size=12)
    assert search.space.layout[-1] == best
    assert search.space.probabilities[-1].max() > 0.9
    assert search.space.entropy[-1] < 0.4


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"temperature": 0.5}, r"engine\.min_temperature=1\.0 .*engine\.temperature=0\.5"),
        ({"min_temperature": 0}, r"engine\.min_temperature=0"),
        ({"temperature_decay": 1.5}, r"engine\.temperature_decay=1\.5"),
        ({"decay_every": 0}, r"engine\.decay_every=0"),
        ({"samples": 0}, r"engine\.samples=0"),
        ({"architecture_lr": 0}, r"engine\.architecture_lr=0"),
        ({"model": option("model", "osnet_ain_x0_25")}, r"model=osnet_ain_search.*OSNetAIN\b"),
    ],
)
def test_invalid_arguments_raise(changes, pattern):
    with pytest.raises(ValueError, match=pattern):
        module(**changes)

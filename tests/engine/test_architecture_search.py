"""The search: its schedule, its optimiser, its log, and that it finds what is better."""

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
    """Three identities, each bright in one channel."""
    pid = torch.arange(size) % 3
    image = 0.3 * torch.randn(size, 3, 64, 32, generator=torch.Generator().manual_seed(seed))
    image[torch.arange(size), pid] += 1.5
    return {"image": image, "pid": pid, "camid": pid, "index": pid}


def fit(trained, steps=2, size=4, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", enable_model_summary=False, **quiet | {"max_epochs": 1} | options)
    trainer.fit(trained, DataLoader([batch(step, size) for step in range(steps)], batch_size=None))
    return trainer


def logits(trained):
    return torch.stack([block.logits.detach() for block in trained.space.positions.values()])


def test_temperature_falls_as_published_and_is_set_in_each_epoch():
    trained = module()
    found = [trained.temperature_of(epoch) for epoch in (0, 19, 20, 39, 40, 60, 79, 80, 500)]
    assert found == [10, 10, 5, 5, 2.5, 1.25, 1.25, 1, 1]
    assert module(temperature_decay=1).temperature_of(500) == 10
    trained = module(temperature=8.0, decay_every=1, min_temperature=3.0)
    seen = []

    class Look(pl.Callback):
        def on_train_batch_start(self, *_):
            seen.append([block.temperature.item() for block in trained.space.positions.values()])

    trainer = fit(trained, steps=1, max_epochs=3, callbacks=[Look()])
    assert seen == [[8.0] * 6, [4.0] * 6, [3.0] * 6]
    assert trainer.callback_metrics["search/temperature"] == 3


def test_entropies_and_probabilities_are_logged():
    trained = module()
    logged = fit(trained).callback_metrics
    assert 1.3 < logged["search/entropy"] < 1.3863
    each = torch.stack([logged[f"search/entropy/{name}"] for name in BLOCKS])
    torch.testing.assert_close(each, trained.space.entropy)
    torch.testing.assert_close(logged["search/entropy"], each.mean())
    shares = torch.stack([torch.stack([logged[f"search/{name}/{word}"] for word in CANDIDATES]) for name in BLOCKS])
    torch.testing.assert_close(shares, logits(trained).softmax(1))


@pytest.mark.parametrize("options", [{}, {"new_layers": ["classifier"]}, {"decay_norms": False}])
def test_every_parameter_is_trained_once_and_the_choice_at_its_own_rate_without_decay(options):
    trained = module(optimizer=SGD | {"lr": 0.1} | options, architecture_lr=0.02)
    *others, own = trained.configure_optimizers()["optimizer"].param_groups
    assert [id(p) for p in own["params"]] == [id(block.logits) for block in trained.space.positions.values()]
    assert (own["lr"], own["weight_decay"]) == (0.02, 0.0)
    listed = [id(p) for group in (*others, own) for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in trained.model.parameters())
    default = module(optimizer=SGD | {"lr": 0.1} | options).configure_optimizers()["optimizer"]
    assert default.param_groups[-1]["lr"] == 0.1


def test_several_samples_count_as_their_mean_in_one_step():
    losses, gradients = [], []
    for samples in (2, 1):
        trained, given = module(samples=samples), batch(size=4)
        trained.log = trained.log_dict = lambda *_, **__: None
        trained._trainer = SimpleNamespace(current_epoch=0)
        torch.manual_seed(1)
        steps = [trained.training_step(given, 0)["loss"] for _ in range(2 // samples)]
        loss = torch.stack(steps).mean()
        loss.backward()
        losses.append(loss.detach())
        gradients.append(torch.stack([block.logits.grad for block in trained.space.positions.values()]))
    assert not torch.equal(*steps)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_the_same_seed_ends_with_the_same_choices():
    ends = []
    for seed in (1, 1, 2):
        trained = module()
        torch.manual_seed(seed)
        fit(trained)
        ends.append(logits(trained))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


class Noise(nn.Module):
    """What tells nothing of its input, in the place of a block."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return torch.randn(len(x), self.channels, *x.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["plain", "residual"])
def test_a_search_finds_the_only_candidate_that_is_not_noise(wanted):
    trained = module(optimizer=SGD | {"lr": 0.05}, architecture_lr=1.0, temperature=2.0)
    candidates = trained.space.positions["conv4.1"].candidates
    channels = candidates[wanted].conv3.conv.out_channels
    for name in CANDIDATES:
        if name != wanted:
            candidates[name] = Noise(channels)
    fit(trained, steps=30, size=12)
    assert trained.space.layout[-1] == wanted
    assert trained.space.probabilities[-1].max() > 0.9
    assert trained.space.entropy[-1] < 0.4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": 0.5}, r"engine\.min_temperature=1\.0 .* engine\.temperature=0\.5"),
        ({"min_temperature": 0}, r"engine\.min_temperature=0"),
        ({"temperature_decay": 1.5}, r"engine\.temperature_decay=1\.5"),
        ({"decay_every": 0}, r"engine\.decay_every=0"),
        ({"samples": 0}, r"engine\.samples=0"),
        ({"architecture_lr": 0}, r"engine\.architecture_lr=0"),
        ({"model": option("model", "osnet_ain_x0_25")}, "needs model=osnet_ain_search.* is OSNetAIN"),
    ],
)
def test_mistakes_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        module(**changes)

"""`CollapseMonitor`: spread of embeddings, and the warning when they collapse to one point."""

import csv
import math
import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

from helpers.tiny_training import small_module
from reidlit.config import option
from reidlit.engine.callbacks.collapse_monitor import CollapseMonitor, distances, spread


@pytest.mark.parametrize(
    ("arguments", "pattern"), [({"fall": 1}, r"spread\.fall=1"), ({"looks": 0}, r"spread\.looks=0")]
)
def test_invalid_arguments_raise(arguments, pattern):
    with pytest.raises(ValueError, match=pattern):
        CollapseMonitor(**arguments)


def test_spread_and_distances_match_loop():
    features, pid = torch.randn(7, 5, dtype=torch.float64) + 1, torch.tensor([0, 0, 1, 1, 1, 2, 3])
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    expected = {
        name: sum(math.dist(features[i], features[j]) for i, j in chosen) / len(chosen)
        for name, chosen in (
            ("positive_distance", [(i, j) for i, j in pairs if pid[i] == pid[j]]),
            ("negative_distance", [(i, j) for i, j in pairs if pid[i] != pid[j]]),
        )
    }
    assert {name: float(value) for name, value in distances(features, pid).items()} == pytest.approx(expected)
    assert set(distances(features, torch.arange(7))) == {"negative_distance"}
    center = features.mean(0)
    squares = [sum(math.dist(row, point) ** 2 for row in features) for point in (center, torch.zeros(5))]
    assert float(spread(features)) == pytest.approx(math.sqrt(squares[0] / squares[1]))
    assert spread(torch.tensor([[3.0, 4.0], [-3.0, -4.0]])) == 1
    assert spread(torch.zeros(4, 3)) == 0
    nearly_equal = torch.full((4, 3), 1000.0) + torch.arange(4)[:, None] * 1e-3
    positive_distance = distances(nearly_equal, torch.tensor([0, 0, 1, 1]))["positive_distance"]
    assert float(positive_distance) == pytest.approx(3**0.5 * 1e-3, rel=0.1)


@pytest.mark.parametrize("collapsed", [True, False])
def test_collapse_warns_once(collapsed, data, tmp_path):
    """The learning rate 0 keeps the weights. With a zero neck, all embeddings are zero."""
    datamodule = data("sampler=identity", "data.num_identities=24")
    loss = {"losses": {"triplet": option("loss", "triplet")["losses"]["triplet"] | {"margin": None}}}
    module, monitor = small_module(datamodule, loss, lr=0.0), CollapseMonitor()
    if collapsed:
        for parameter in module.model.neck.parameters():
            torch.nn.init.zeros_(parameter)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=4, callbacks=[monitor], log_every_n_steps=3, use_distributed_sampler=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        logger=CSVLogger(tmp_path, "", ""),
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, datamodule)
    messages = [str(warning.message) for warning in caught if "train/spread" in str(warning.message)]
    assert len(messages) == collapsed
    assert all("optimizer.lr" in message and "ln 2" in message for message in messages)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == trainer.global_step // 3 > monitor.looks
    last = {name: float(value) for name, value in rows[-1].items()}
    if collapsed:
        assert last["train/loss"] == pytest.approx(math.log(2))
        assert last["train/spread"] == last["train/positive_distance"] == last["train/negative_distance"] == 0
    else:
        assert min(last["train/spread"], last["train/positive_distance"], last["train/negative_distance"]) > 0.01
        assert last["train/spread"] <= monitor.widest <= 1


@pytest.mark.parametrize(
    ("first", "then", "warns"), [(0.8, 7e-4, True), (0.8, 9e-4, False), (1e-8, 1e-8, True), (3e-5, 3e-5, False)]
)
def test_warning_requires_a_drop_of_the_spread(first, then, warns):
    """Equal outputs from the start also warn. A small initial spread, as with a small layer scale, does not."""
    monitor = CollapseMonitor()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step, measured in enumerate([first, *[then] * 4, first, *[then] * 9]):
            monitor.update(measured, step)
    assert len(caught) == warns


def test_state_of_earlier_releases_can_be_loaded():
    monitor = CollapseMonitor()
    assert monitor.state_key == "SpreadWatch"
    monitor.load_state_dict({"widest": 0.5})
    assert monitor.state_dict() == {"widest": 0.5}

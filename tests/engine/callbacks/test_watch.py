"""Losses that are no numbers stop a training or are left out; a collapse is named."""

import math
import os
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import MixedPrecision

from helpers.cli_settings import TINY
from reidlit.commands._data import build_datamodule
from reidlit.config import CONFIG_DIR, option
from reidlit.engine.callbacks.watch import LossWatch, SpreadWatch, distances, spread
from reidlit.engine.reid import ReIDModule
from reidlit.losses import CrossEntropy


class Poisoned(CrossEntropy):
    """Cross entropy, times a number at some of its calls, or infinite with finite gradients if that is None.

    With `gradient` the gradient is NaN there where the value is not.
    """

    def __init__(self, calls, value=math.nan, gradient=False, rank=0):
        super().__init__()
        self.calls, self.value, self.gradient = calls, value, gradient
        self.here = rank == int(os.environ.get("LOCAL_RANK", "0"))
        self.seen = 0

    def forward(self, output, pid):
        self.seen += 1
        loss = super().forward(output, pid)
        if self.seen not in self.calls or not self.here:
            return loss
        if self.gradient:
            return loss + (output.logits[0] * 0).sqrt().sum()
        return loss + math.inf if self.value is None else loss * self.value


class Recorder(pl.Callback):
    """Each batch's indices, and weights, buffers and moments after it."""

    def __init__(self):
        self.indices, self.states = [], []

    def on_train_batch_start(self, _trainer, _module, batch, _):
        self.indices.append(batch["index"].tolist())

    def on_train_batch_end(self, trainer, pl_module, *_):
        moments = trainer.optimizers[0].state_dict()["state"]
        flat = {f"{i}.{name}": value for i, each in moments.items() for name, value in each.items()}
        self.states.append({name: value.clone() for name, value in (pl_module.state_dict() | flat).items()})


@pytest.fixture(autouse=True)
def _one_thread():
    """The batches are too small for two, which wait for each other for long where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(monkeypatch, drawn):
    """The drawn images, twelve a batch, three batches an epoch."""
    monkeypatch.setenv("REIDLIT_DATA", str(drawn))

    def make(*changes):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            datamodule = build_datamodule(compose("train", [*TINY, "data.batch_size=12", *changes]))
        datamodule.prepare_data()
        datamodule.setup("fit")
        return datamodule

    return make


def module(datamodule, loss=None, lr=1e-3, optimizer="adam", **options):
    torch.manual_seed(0)
    return ReIDModule(
        model=option("model", "osnet_x0_25"),
        pids=datamodule.pids,
        loss=loss or option("loss", "softmax"),
        optimizer=option("optimizer", optimizer) | {"lr": lr} | options,
        scheduler=option("scheduler", "constant"),
        image_size=[64, 32],
    )


def poisoned(**options):
    return {"losses": {"poisoned": {"_target_": "test_watch.Poisoned", **options}}}


def fit(built, datamodule, *callbacks, epochs=2, **options):
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings["enable_checkpointing"] = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), use_distributed_sampler=False, **(settings | options)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(built, datamodule)
    return trainer


def every_step(folder):
    return ModelCheckpoint(folder, "last", every_n_train_steps=1, enable_version_counter=False)


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("every", [None, 2, 100])
def test_a_bad_loss_stops_with_its_images_and_the_last_good_checkpoint(value, every, data, tmp_path):
    """At once, at the next look, and at the latest before a checkpoint."""
    datamodule, seen = data(), Recorder()
    built = module(datamodule, poisoned(calls=[5], value=value))
    with pytest.raises(ValueError, match="loss is NaN or infinite in epoch 1, at step 4") as error:
        fit(built, datamodule, seen, LossWatch(every_n_steps=every), every_step(tmp_path))
    paths = [str(datamodule.train[index].path) for index in seen.indices[4]]
    assert ", ".join(paths[:8]) + " and 4 more" in str(error.value)
    assert not any(path in str(error.value) for path in paths[8:])
    assert f"last good checkpoint is {tmp_path / 'last.ckpt'}" in str(error.value)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4
    assert same(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"], seen.states[3])
    if every is None:  # the gradient never reached the weights
        assert same(dict(built.named_parameters()), seen.states[3])


def test_a_gradient_that_is_no_number_reaches_no_checkpoint(data, tmp_path):
    datamodule, seen = data(), Recorder()
    built = module(datamodule, poisoned(calls=[3], gradient=True))
    with pytest.raises(ValueError, match="Weights are NaN or infinite after step 3 in epoch 0"):
        fit(built, datamodule, seen, LossWatch(), every_step(tmp_path))
    assert same(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"], seen.states[1])
    with pytest.raises(ValueError, match=r"epoch 1, at step 3.*No checkpoint was written"):
        fit(module(datamodule, poisoned(calls=[3], gradient=True)), datamodule, LossWatch())


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "bf16-mixed"}, {"gradient_clip_val": 1.0}],
    ids=["32", "bf16", "clipped"],
)
def test_a_skipped_step_leaves_all_as_it_was(accumulate, settings, data, tmp_path):
    datamodule, seen, watch = data(), Recorder(), LossWatch("skip")
    built, logger = module(datamodule, poisoned(calls=[4, 9])), CSVLogger(tmp_path, "", "")
    options = settings | {"logger": logger, "log_every_n_steps": 1, "accumulate_grad_batches": accumulate}
    fit(built, datamodule, watch, seen, every_step(tmp_path), epochs=4, **options)
    assert watch.skipped == 2
    stepped = [seen.states[i] for i in range(accumulate - 1, 12, accumulate)]
    skipped = {3 // accumulate, 8 // accumulate}
    for i in range(1, len(stepped)):
        parameters = {name: stepped[i][name] for name, _ in built.named_parameters()}
        assert same(parameters, stepped[i - 1]) == (i in skipped)
    if accumulate == 1:  # else the other batches of the step do move the statistics
        assert same({n: v for n, v in stepped[3].items() if "num_batches" not in n}, stepped[2])
    assert all(torch.isfinite(value).all() for value in seen.states[-1].values())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["LossWatch"] == {"skipped": 2}
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/skipped")
    assert [row.split(",")[column] for row in rows[1:]][-1] == "2.0"


@pytest.mark.parametrize("fused", [False, True])
def test_a_skipped_step_goes_with_a_gradient_scaler(fused, data):
    """An infinite loss of finite gradients, which the scaler alone would not leave out."""
    datamodule, seen, watch = data("data.batch_size=4"), Recorder(), LossWatch("skip")
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu", init_scale=256.0))
    built = module(datamodule, poisoned(calls=[4], value=None), fused=fused)
    fit(built, datamodule, watch, seen, epochs=1, plugins=plugin, limit_train_batches=6)
    names = [name for name, _ in built.named_parameters()]
    kept = [same({n: now[n] for n in names}, before) for before, now in pairwise(seen.states)]
    assert kept == [False, False, True, False, False]
    assert watch.skipped == 1


def test_a_training_that_is_nothing_but_bad_batches_stops(data):
    datamodule = data("data.batch_size=4")
    with pytest.raises(ValueError, match=r"at step 22,.* for 20 steps before, which were left out"):
        fit(module(datamodule, poisoned(calls=list(range(3, 99)))), datamodule, LossWatch("skip"), epochs=4)


def test_what_a_gradient_scaler_leaves_out_is_no_error(data):
    datamodule, seen = data(), Recorder()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-50)
    plugin = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
    fit(module(datamodule, fused=False), datamodule, seen, LossWatch(), plugins=plugin)
    assert scaler.get_scale() < 2.0**60, "it left out none"
    assert not same({k: v for k, v in seen.states[-1].items() if "weight" in k}, seen.states[0])


TWO = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from test_watch import *

with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
    datamodule = build_datamodule(compose("train", [*TINY, "data.batch_size=8"]))
datamodule.prepare_data()
datamodule.setup("fit")
seen = Recorder()
built = module(datamodule, poisoned(calls=[3], rank=1))
strategy = pl.strategies.DDPStrategy(process_group_backend="gloo")
try:
    fit(built, datamodule, seen, LossWatch(every_n_steps=eval(sys.argv[3])), devices=2, strategy=strategy)
except ValueError as error:
    bad = " ".join(datamodule.train[index].path for index in seen.indices[2])
    Path(os.environ.get("LOCAL_RANK", "0")).write_text(f"{error}\\n{bad}")
"""


@pytest.mark.parametrize("every", [None, 4])
def test_all_ranks_stop_and_name_the_images_of_the_bad_one(every, tmp_path, drawn):
    here = Path(__file__).parent
    (tmp_path / "two.py").write_text(TWO)
    done = subprocess.run(
        [sys.executable, "two.py", str(here), str(here.parent), str(every)],
        cwd=tmp_path,
        env=os.environ | {"REIDLIT_DATA": str(drawn), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (tmp_path / "1").exists(), done.stderr
    (first, other), (second, bad) = ((tmp_path / rank).read_text().splitlines() for rank in "01")
    assert first == second
    assert all(path in first for path in bad.split())
    assert len(bad.split()) == 4
    assert not any(path in first for path in set(other.split()) - set(bad.split()))


def test_options_are_checked():
    for wrong, message in (
        ({"on_nan": "warn"}, "watch.on_nan='warn'"),
        ({"every_n_steps": 0}, "watch.every_n_steps=0"),
    ):
        with pytest.raises(ValueError, match=message):
            LossWatch(**wrong)
    for wrong, message in (({"fall": 1}, "spread.fall=1"), ({"looks": 0}, "spread.looks=0")):
        with pytest.raises(ValueError, match=message):
            SpreadWatch(**wrong)


def test_spread_and_distances_are_those_of_a_loop():
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
    centre = features.mean(0)
    squares = [sum(math.dist(each, point) ** 2 for each in features) for point in (centre, torch.zeros(5))]
    assert float(spread(features)) == pytest.approx(math.sqrt(squares[0] / squares[1]))
    assert spread(torch.tensor([[3.0, 4.0], [-3.0, -4.0]])) == 1
    assert spread(torch.zeros(4, 3)) == 0
    near = torch.full((4, 3), 1000.0) + torch.arange(4)[:, None] * 1e-3
    assert float(distances(near, torch.tensor([0, 0, 1, 1]))["positive_distance"]) == pytest.approx(
        3**0.5 * 1e-3, rel=0.1
    )


@pytest.mark.parametrize(("lr", "collapses"), [(3e-2, True), (3e-4, False)])
def test_a_real_collapse_is_named_once_and_a_fresh_network_is_not_one(lr, collapses, data, tmp_path):
    """Soft-margin triplet from scratch; a rate that is far too high, and one that is not."""
    datamodule = data("sampler=identity", "data.num_identities=24")
    loss = {"losses": {"triplet": option("loss", "triplet")["losses"]["triplet"] | {"margin": None}}}
    built, watch = module(datamodule, loss, lr, "adamw"), SpreadWatch()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=20, callbacks=[watch], log_every_n_steps=3, use_distributed_sampler=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        logger=CSVLogger(tmp_path, "", ""),
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(built, datamodule)
    named = [str(warning.message) for warning in caught if "collapsed" in str(warning.message)]
    assert len(named) == collapses
    assert all("optimizer.lr" in text and "ln 2" in text for text in named)
    header, *rows = [row.split(",") for row in (tmp_path / "metrics.csv").read_text().splitlines()]
    last = {name: float(value) for name, value in zip(header, rows[-1], strict=True)}
    assert len(rows) == trainer.global_step // 3
    if collapses:
        assert last["train/loss"] == pytest.approx(math.log(2))
        assert last["train/spread"] == last["train/positive_distance"] == last["train/negative_distance"] == 0
    else:
        assert 0 < last["train/positive_distance"] < last["train/negative_distance"]
        assert watch.widest > 0.7


@pytest.mark.parametrize(
    ("first", "then", "warns"), [(0.8, 7e-4, True), (0.8, 9e-4, False), (1e-8, 1e-8, True), (3e-5, 3e-5, False)]
)
def test_what_counts_is_the_fall(first, then, warns):
    """A network of equal outputs is named too; one whose layer scale begins small is not."""
    watch = SpreadWatch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step, seen in enumerate([first, *[then] * 4, first, *[then] * 9]):
            watch._judge(seen, step)
    assert len(caught) == warns

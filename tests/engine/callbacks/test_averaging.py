"""Averages of the weights are those of a loop over the weights of the steps."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from helpers.tiny_training import Recorder, every_step, fit, same, small_module
from reidlit.engine.callbacks.averaging import EMA, SWA
from reidlit.engine.reid import ReIDModule


class More(pl.Callback):
    """The images of the batches, and the weights of the last validation."""

    def __init__(self):
        self.images, self.validated = [], {}

    def on_train_batch_start(self, _trainer, _module, batch, _):
        self.images.append(batch["image"])

    def on_validation_batch_start(self, _trainer, pl_module, *_):
        self.validated = {name: value.clone() for name, value in pl_module.state_dict().items()}


def loaded(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


def near(one, other, tolerance=1e-6):
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "start", "accumulate"), [(1, 0, 1), (2, 3, 1), (1, 1, 3)])
def test_ema_is_that_of_a_loop_in_checkpoints_and_in_the_model(every, start, accumulate, data, tmp_path):
    datamodule, seen = data(), Recorder()
    built = small_module(datamodule)
    ema = EMA(decay=0.7, every_n_steps=every, start_step=start)
    fit(built, datamodule, seen, ema, every_step(tmp_path), epochs=3, accumulate_grad_batches=accumulate)
    names = list(built.state_dict())
    steps = [{name: state[name] for name in names} for state in seen.states[accumulate - 1 :: accumulate]]
    expected = dict(steps[start])
    for state in steps[start + every :: every]:
        for name, value in state.items():
            expected[name] = 0.7 * expected[name] + 0.3 * value if value.is_floating_point() else value
    content = loaded(tmp_path)
    near(expected, content["state_dict"])
    assert same(content["state_dict"], built.state_dict())
    assert same(content["current_model_state"], steps[-1])
    assert not same(content["state_dict"], steps[-1])
    assert same(ReIDModule.load_from_checkpoint(tmp_path / "last.ckpt").state_dict(), content["state_dict"])


class Counter(pl.LightningModule):
    """A weight that is the number of steps, and its values in training and validation."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.networks, self.trained, self.validated = (), [], []

    def training_step(self, _batch, _):
        self.trained.append(self.weight.item())
        return -self.weight

    def validation_step(self, _batch, _):
        self.validated.append(self.weight.item())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.mark.parametrize(
    ("average", "expected", "final"),
    [
        (EMA(decay=0.5), [1, 1.5, 2.25, 3.125], 3.125),
        (EMA(decay=0.5, start_step=2), [1, 2, 3, 3.5], 3.5),
        (SWA(start=0), [1, 1, 1.5, 2], 2.5),  # an epoch is validated before it is averaged
        (SWA(start=0.5), [1, 2, 3, 3], 3.5),
    ],
    ids=["ema", "ema started", "swa", "swa started"],
)
def test_validation_uses_the_average_and_training_does_not(average, expected, final):
    """All values are exact."""
    module, batches = Counter(), torch.zeros(1)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=4, callbacks=[average], num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(batches), torch.utils.data.DataLoader(batches))
    assert module.trained == [0, 1, 2, 3]
    assert module.validated == expected
    assert module.weight.item() == final


@pytest.mark.parametrize("average", [EMA(start_step=99), SWA(start=0.9)])
def test_before_its_start_the_average_is_the_current_model(average, data, tmp_path):
    """In checkpoints, in validation and at the end of a run that ends before, each without the others."""
    datamodule, seen, more = data("data.val_fraction=0.34"), Recorder(), More()
    saved = ModelCheckpoint(tmp_path, "last", every_n_train_steps=3, enable_version_counter=False)
    fit(small_module(datamodule), datamodule, seen, average, more, saved, epochs=20, max_steps=4)
    assert same(loaded(tmp_path)["state_dict"], seen.states[2])
    assert same(more.validated, seen.states[3])

    datamodule, seen = data(), Recorder()
    built = small_module(datamodule)
    fit(built, datamodule, seen, average, epochs=20, max_steps=4)
    assert same(built.state_dict(), seen.states[3])


def test_swa_is_the_mean_of_the_last_epochs_with_statistics_of_its_own(data, tmp_path):
    datamodule, seen, more = data("transforms=none"), Recorder(), More()
    built = small_module(datamodule)
    epochs = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    fit(built, datamodule, seen, more, SWA(start=0.5), epochs, epochs=4)
    content, ends = loaded(tmp_path), [seen.states[8], seen.states[11]]
    parameters = [name for name, _ in built.named_parameters()]
    near({name: (ends[0][name] + ends[1][name]) / 2 for name in parameters}, content["state_dict"])
    assert same(content["current_model_state"], {name: ends[1][name] for name in built.state_dict()})
    assert same(content["state_dict"], built.state_dict())
    assert int(content["averaging_state"]["n_averaged"]) == 2

    first = built.model.backbone.conv1
    with torch.no_grad():
        maps = [first.conv((batch / 255 - built.model.mean) / built.model.std) for batch in more.images[-3:]]
    torch.testing.assert_close(first.bn.running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0))
    torch.testing.assert_close(first.bn.running_var, torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0))
    assert {m.momentum for m in built.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


def test_options_are_checked(data):
    for make, words in (
        (lambda: EMA(decay=1), "ema.decay=1 must"),
        (lambda: EMA(every_n_steps=0), "ema.every_n_steps=0"),
        (lambda: EMA(start_step=-1), "ema.start_step=-1"),
        (lambda: SWA(start=1), "swa.start=1 must"),
        (lambda: fit(small_module(data()), data(), SWA(), epochs=-1, max_steps=1), "trainer.max_epochs=-1"),
    ):
        with pytest.raises(ValueError, match=words):
            make()

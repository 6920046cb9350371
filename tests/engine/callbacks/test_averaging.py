"""Weight averages compared with averages of the recorded weights of all steps."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from helpers.tiny_training import Recorder, every_step, fit, same, small_module
from reidlit.engine.callbacks.averaging import EMA, SWA
from reidlit.engine.reid import ReIDModule


class ImageRecorder(pl.Callback):
    """Records the images of all batches, and the weights of the last validation."""

    def __init__(self):
        self.images, self.validated = [], {}

    def on_train_batch_start(self, _trainer, _module, batch, _):
        self.images.append(batch["image"])

    def on_validation_batch_start(self, _trainer, pl_module, *_):
        self.validated = {name: value.clone() for name, value in pl_module.state_dict().items()}


def load_checkpoint(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


def assert_all_close(expected, actual, tolerance=1e-6):
    for name, value in expected.items():
        torch.testing.assert_close(value, actual[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "start", "accumulate"), [(1, 0, 1), (2, 3, 1), (1, 1, 3)])
def test_ema_matches_loop_in_checkpoint_and_model(every, start, accumulate, data, tmp_path):
    datamodule, recorder = data(), Recorder()
    module = small_module(datamodule)
    ema = EMA(decay=0.7, every_n_steps=every, start_step=start)
    fit(module, datamodule, recorder, ema, every_step(tmp_path), epochs=3, accumulate_grad_batches=accumulate)
    names = list(module.state_dict())
    steps = [{name: state[name] for name in names} for state in recorder.states[accumulate - 1 :: accumulate]]
    expected = dict(steps[start])
    for state in steps[start + every :: every]:
        for name, value in state.items():
            expected[name] = 0.7 * expected[name] + 0.3 * value if value.is_floating_point() else value
    content = load_checkpoint(tmp_path)
    assert_all_close(expected, content["state_dict"])
    assert same(content["state_dict"], module.state_dict())
    assert same(content["current_model_state"], steps[-1])
    assert not same(content["state_dict"], steps[-1])
    assert same(ReIDModule.load_from_checkpoint(tmp_path / "last.ckpt").state_dict(), content["state_dict"])


class Counter(pl.LightningModule):
    """A module with a weight that counts steps, which records the weight in training and validation."""

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
        (SWA(start=0), [1, 1, 1.5, 2], 2.5),  # validation precedes averaging
        (SWA(start=0.5), [1, 2, 3, 3], 3.5),
    ],
    ids=["ema", "ema started", "swa", "swa started"],
)
def test_validation_uses_average_and_training_does_not(average, expected, final):
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
def test_average_equals_current_weights_before_it_starts(average, data, tmp_path):
    """Check the checkpoint and the validation in one run, and the end of training in another run without them."""
    datamodule, recorder, image_recorder = data("data.val_fraction=0.34"), Recorder(), ImageRecorder()
    checkpoint = ModelCheckpoint(tmp_path, "last", every_n_train_steps=3, enable_version_counter=False)
    callbacks = (recorder, average, image_recorder, checkpoint)
    fit(small_module(datamodule), datamodule, *callbacks, epochs=20, max_steps=4)
    assert same(load_checkpoint(tmp_path)["state_dict"], recorder.states[2])
    assert same(image_recorder.validated, recorder.states[3])

    datamodule, recorder = data(), Recorder()
    module = small_module(datamodule)
    fit(module, datamodule, recorder, average, epochs=20, max_steps=4)
    assert same(module.state_dict(), recorder.states[3])


def test_swa_averages_last_epochs_and_recomputes_statistics(data, tmp_path):
    datamodule, recorder, image_recorder = data("transforms=none"), Recorder(), ImageRecorder()
    module = small_module(datamodule)
    checkpoint = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    fit(module, datamodule, recorder, image_recorder, SWA(start=0.5), checkpoint, epochs=4)
    content, epoch_ends = load_checkpoint(tmp_path), [recorder.states[8], recorder.states[11]]
    parameters = [name for name, _ in module.named_parameters()]
    means = {name: (epoch_ends[0][name] + epoch_ends[1][name]) / 2 for name in parameters}
    assert_all_close(means, content["state_dict"])
    assert same(content["current_model_state"], {name: epoch_ends[1][name] for name in module.state_dict()})
    assert same(content["state_dict"], module.state_dict())
    assert int(content["averaging_state"]["n_averaged"]) == 2

    first = module.model.backbone.conv1
    with torch.no_grad():
        images = [(batch / 255 - module.model.mean) / module.model.std for batch in image_recorder.images[-3:]]
        maps = [first.conv(batch) for batch in images]
    torch.testing.assert_close(first.bn.running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0))
    torch.testing.assert_close(first.bn.running_var, torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0))
    assert {m.momentum for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


def test_invalid_arguments_raise(data):
    for make, pattern in (
        (lambda: EMA(decay=1), r"ema\.decay=1\b"),
        (lambda: EMA(every_n_steps=0), r"ema\.every_n_steps=0"),
        (lambda: EMA(start_step=-1), r"ema\.start_step=-1"),
        (lambda: SWA(start=1), r"swa\.start=1\b"),
        (lambda: fit(small_module(data()), data(), SWA(), epochs=-1, max_steps=1), r"trainer\.max_epochs=-1"),
    ):
        with pytest.raises(ValueError, match=pattern):
            make()

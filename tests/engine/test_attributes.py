"""`AttributeModule`: training, prediction, metrics and checkpoints."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from reidlit.config import option
from reidlit.engine.attributes import SCORES, AttributeModule
from reidlit.metrics.attribute_metric import AttributeMetric

NAMES = ["hat", "coat", "bag"]
TIMM = option("model", "timm")
BACKBONE = TIMM["backbone"] | {"name": "test_resnet"}
TWO_BRANCHES = TIMM | {"backbone": BACKBONE, "pool": option("model/pool", "stripes") | {"parts": 2}}
TRAINING = {
    "loss": option("loss", "attributes"),
    "optimizer": option("optimizer", "sgd") | {"lr": 0.05},
    "scheduler": option("scheduler", "constant"),
}


def module(**changes):
    torch.manual_seed(0)
    settings = {"model": TWO_BRANCHES, "attributes": NAMES, "ratios": [0.5, 0.1, 0.3], "image_size": [64, 32]}
    return AttributeModule(**settings | TRAINING | changes)


def batch(seed):
    torch.manual_seed(seed)
    pid = torch.full((6,), -1)
    return {
        "image": torch.randint(0, 256, (6, 3, 64, 32), dtype=torch.uint8),
        "attributes": torch.randint(-1, 2, (6, 3)).to(torch.int8),
        "pid": pid,
        "camid": pid,
        "index": torch.arange(6),
    }


def loader(*seeds):
    return DataLoader([batch(seed) for seed in seeds], batch_size=None)


def test_module_trains_validates_and_reloads(tmp_path):
    trained = module()
    # By default, model=timm has a classifier without bias after its batch norm.
    assert all(classifier.bias is not None for classifier in trained.model.classifier)
    before = {name: value.clone() for name, value in trained.model.named_parameters()}
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(trained, loader(0, 1), loader(2, 3))
    changed = [name for name, value in trained.model.named_parameters() if not torch.equal(value, before[name])]
    assert len(changed) > 0.9 * len(before)
    trained.eval()
    metric = AttributeMetric(3)
    for seed in (2, 3):
        images = batch(seed)
        logits = trained.model(images["image"]).logits
        assert len(logits) == 2
        probabilities = trained(images["image"])
        torch.testing.assert_close(probabilities, ((logits[0] + logits[1]) / 2).sigmoid())
        metric.update(probabilities, images["attributes"])
    expected = metric.compute().as_dict()
    assert {name: trainer.callback_metrics[f"val/{name}"].item() for name in expected} == pytest.approx(expected)
    assert {"train/loss", "train/accuracy"} <= set(trainer.callback_metrics)

    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content[SCORES] == pytest.approx(expected)
    assert content["hyper_parameters"]["attributes"] == NAMES
    loaded = AttributeModule.load_from_checkpoint(tmp_path / "a.ckpt").eval()
    image = batch(9)["image"]
    torch.testing.assert_close(loaded(image), trained(image))
    torch.testing.assert_close(loaded.attribute_probabilities(image), trained(image))


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="num_attributes=0"):
        module(attributes=[])
    with pytest.raises(ValueError, match="threshold=1"):
        module(threshold=1)
    with pytest.raises(ValueError, match="ratios"):
        module(ratios=None)
    with pytest.raises(ValueError, match="loss=None"):
        module(loss=None).training_step(batch(0), 0)

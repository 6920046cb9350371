"""`JointAttributeModule`: loss, labels of identities, metrics and checkpoints."""

import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from reidlit.config import option
from reidlit.engine.joint_attributes import JointAttributeModule
from reidlit.engine.reid import ReIDModule
from reidlit.inference.loading import load_trained

TIMM = option("model", "timm")
MODEL = TIMM | {"backbone": TIMM["backbone"] | {"name": "test_resnet"}}
TRAINING = {
    "loss": {"losses": {"softmax": {"_target_": "reidlit.losses.CrossEntropy"}}},
    "optimizer": option("optimizer", "sgd") | {"lr": 0.05},
    "scheduler": option("scheduler", "constant"),
}
# The training identities are 3, 5 and 8. The table lacks 5, and contains the test identity 9.
TABLE = "pid,hat,coat\n9,1,0\n8,0,\n3,1,1\n"
LABELS = {3: [1, 1], 5: [-1, -1], 8: [0, -1], 9: [1, 0]}


@pytest.fixture
def table(tmp_path):
    (tmp_path / "people.csv").write_text(TABLE, encoding="utf-8")
    return str(tmp_path / "people.csv")


def module(table, **changes):
    torch.manual_seed(0)
    settings = {"model": MODEL, "pids": [3, 5, 8], "image_size": [64, 32], "attributes_file": table, **TRAINING}
    with pytest.warns(UserWarning, match=r"engine\.attributes_file=.* 1 of 3 "):
        return JointAttributeModule(**settings | changes)


def batch(seed=0, pids=(0, 0, 1, 2)):
    torch.manual_seed(seed)
    pid = torch.tensor(pids)
    query = torch.arange(len(pids)) < len(pids) // 2
    return {
        "image": torch.randint(0, 256, (len(pids), 3, 64, 32), dtype=torch.uint8),
        "pid": pid,
        "camid": (~query).long(),
        "index": torch.arange(len(pids)),
        "query": query,
    }


def loader(*batches):
    return DataLoader(list(batches), batch_size=None)


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    return pl.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet | options)


def test_loss_matches_loop_over_known_labels(table):
    trained = module(table, weight=0.7, weighting="label")
    trained.log = trained.log_dict = lambda *_, **__: None
    trained._trainer = SimpleNamespace(current_epoch=0)
    images = batch()
    loss = trained.training_step(images, 0)["loss"]
    output = trained.model(images["image"])
    probabilities = trained.attribute_head(output.embedding).sigmoid().tolist()
    ratios = [0.5, 1.0]  # over training identities with known labels
    terms = []
    for row, pid in zip(probabilities, [3, 3, 5, 8], strict=True):
        for probability, label, ratio in zip(row, LABELS[pid], ratios, strict=True):
            if label >= 0:
                weight = math.exp(1 - ratio if label else ratio)
                terms.append(-math.log(probability if label else 1 - probability) * weight)
    expected = trained.loss(output, images["pid"])[0].item() + 0.7 * sum(terms) / len(terms)
    assert len(terms) == 5
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert trained.attribute_head.weight.grad.abs().sum() > 0


def test_checkpoint_contains_model_head_and_labels(table, tmp_path):
    trained = module(table)
    initial_head = trained.attribute_head.weight.clone()
    fit_trainer = trainer()
    fit_trainer.fit(trained, loader(batch(0), batch(1)), loader(batch(2, (9, 9, 9, 4))))
    assert not torch.equal(initial_head, trained.attribute_head.weight)
    assert {"val/mAP", "val/mA", "val/f1", "train/attributes", "train/softmax"} <= set(fit_trainer.callback_metrics)
    path = tmp_path / "a.ckpt"
    fit_trainer.save_checkpoint(path)
    (tmp_path / "people.csv").unlink()
    torch.load(path, weights_only=True)
    image = batch(5)["image"]
    loaded = JointAttributeModule.load_from_checkpoint(path).eval()
    trained.eval()
    torch.testing.assert_close(loaded.attribute_probabilities(image), trained.attribute_probabilities(image))
    assert loaded.hparams["attributes"] == ["hat", "coat"]
    assert loaded.labels[loaded._rows_of([9, 3, 5, 1000])].tolist() == [LABELS[9], LABELS[3], [-1, -1], [-1, -1]]
    for model in (ReIDModule.load_from_checkpoint(path).model, load_trained(path).model):
        torch.testing.assert_close(model.eval().embed(image), trained(image))
    with pytest.raises(ValueError, match="engine=joint_attributes"):
        loaded.on_load_checkpoint({})


def test_attributes_are_evaluated_on_labelled_identities_of_the_dataset(table):
    trained = module(table).eval()
    test_batch = batch(3, (9, 4, 9, 4))
    for dataset, evaluated in ((None, True), ("own", True), ("other", False)):
        trained.dataset = dataset
        test_trainer = trainer()
        test_trainer.test(trained, {"own": loader(test_batch)}, verbose=False)
        scores = trained.scores("own").as_dict()
        assert ("mA" in scores) == evaluated
        assert "mAP" in scores
        if evaluated:
            probabilities = trained.attribute_probabilities(test_batch["image"])[[0, 2]]
            assert scores["attributes/hat/num_known"] == 2
            assert scores["attributes/hat/recall"] == pytest.approx((probabilities[:, 0] >= 0.5).float().mean().item())
            assert test_trainer.callback_metrics["test/own/f1"] == pytest.approx(scores["f1"])
    trained.dataset = None
    trainer().test(trained, {"own": loader(batch(3, (4, 6, 4, 6)))}, verbose=False)
    assert "mA" not in trained.scores("own").as_dict()


def test_combined_datasets_raise(table):
    trained = module(table)
    trained._trainer = SimpleNamespace(datamodule=SimpleNamespace(name="a+b", sources=["a", "b"]))
    with pytest.raises(ValueError, match=r"data=a\+b.*engine\.attributes_file="):
        trained.on_fit_start()


def test_invalid_arguments_raise(table, tmp_path):
    for changes, pattern in (
        ({"attributes_file": None}, r"engine\.attributes_file=null"),
        ({"weight": 0}, r"engine\.weight=0"),
        ({"weighting": "much"}, "weighting='much'"),
        ({"threshold": 2}, "threshold=2"),
        ({"pids": [1, 2]}, r"engine\.attributes_file=.* 2 .*\b1\b"),
    ):
        pids = changes.pop("pids", [3, 8])
        with pytest.raises(ValueError, match=pattern):
            JointAttributeModule(MODEL, pids, image_size=[64, 32], **{"attributes_file": table} | changes)
    with pytest.raises(FileNotFoundError, match=r"no\.mat"):
        JointAttributeModule(MODEL, [3], attributes_file=str(tmp_path / "no.mat"))

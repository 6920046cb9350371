"""Joint training of identities and attributes on the command line, with labels in the format of Market-1501."""

import json

import numpy as np
import pytest
import torch
from scipy.io import savemat

from helpers.cli_settings import TINY, TRAIN
from reidlit.data.datasets.synthetic_attributes import attributes_of
from reidlit.data.synthetic.pedestrians import Pedestrians

NAMES = ("hat", "jacket", "bare_legs", "dark_top")
FIGURES = ("mA", "accuracy", "precision", "recall", "f1")
JOINT = ["engine=joint_attributes", "engine.attributes_file=market_attribute.mat"]


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture
def market(tmp_path):
    """Write attributes of the synthetic people in the format of Lin et al.: 1 is no, 2 is yes, and an age."""
    pedestrians = Pedestrians(12, 2, 3, 64, 32, 0)
    splits = {}
    for split, pids in (("train", range(6)), ("test", range(6, 11))):  # person 11 has no labels
        worn = [attributes_of(pedestrians.person(pid)) for pid in pids]
        index = np.empty((1, len(worn)), object)
        index[0] = [f"{pid:04d}" for pid in pids]
        columns = {name: np.array([[1.0 + each[name] for each in worn]]) for name in NAMES}
        splits[split] = {"age": np.array([[1.0 + pid % 4 for pid in pids]]), **columns, "image_index": index}
    savemat(tmp_path / "market_attribute.mat", {"market_attribute": splits})
    return pedestrians


@pytest.mark.slow
def test_identities_and_attributes_are_trained_tested_and_predicted(market, reidlit, tmp_path):
    run = [*TRAIN, *JOINT, "loss=softmax_triplet", "sampler.num_instances=3", "logger=csv", "data.val_fraction=0.34"]
    done = reidlit("train", *run, "engine.weighting=label", "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert "age_adult" in done.out
    (tmp_path / "market_attribute.mat").unlink()  # the checkpoint contains the labels
    found = metrics(tmp_path / "run")
    for prefix in ("val", "test/synthetic"):
        assert 0 < found[f"{prefix}/mAP"] <= 1
        assert all(0 <= found[f"{prefix}/{name}"] <= 1 for name in FIGURES)
    assert found["test/synthetic/attributes/hat/num_known"] == 5 * 2 * 3
    assert "test/synthetic/attributes/age_adult/recall" in found
    logged = (tmp_path / "run" / "csv" / "metrics.csv").read_text()
    assert all(name in logged for name in ("train/attributes", "train/triplet", "val/mA", "test/synthetic/f1"))

    path = f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    for name, engine in (("identities", []), ("both", JOINT[:1])):
        tested = reidlit("test", *TINY, *engine, path, f"hydra.run.dir={name}")
        assert tested.status == 0, tested.err
    both, identities = metrics(tmp_path / "both"), metrics(tmp_path / "identities")
    assert {name: both[name] for name in identities if name.endswith(("mAP", "rank1"))} == {
        name: value for name, value in identities.items() if name.endswith(("mAP", "rank1"))
    }
    scores = {
        name: value
        for name, value in found.items()
        if name.startswith("test/synthetic/") and name.endswith(("/mA", "/f1"))
    }
    assert {name: both[name] for name in scores} == pytest.approx(scores)
    assert not any(name.endswith("/mA") for name in identities)

    done = reidlit("predict", "data=synthetic", *TINY, path, "num_workers=0", "output=predicted.csv")
    assert done.status == 0, done.err
    rows = [line.split(",") for line in (tmp_path / "predicted.csv").read_text().splitlines()]
    column = rows[0].index("hat")
    pairs = []
    for row in rows[1:]:
        pid = int(row[0].rpartition("/")[2][:4])
        if pid < 11:
            pairs.append(int(row[column]) == attributes_of(market.person(pid))["hat"])
    assert np.mean(pairs) == pytest.approx(found["test/synthetic/attributes/hat/accuracy"])


@pytest.mark.slow
@pytest.mark.usefixtures("market")
def test_resumed_run_equals_uninterrupted_run(reidlit, tmp_path):
    run = [*TRAIN, *JOINT, "averaging=ema", "callbacks.ema.decay=0.5", "scheduler=constant", "test=false"]
    assert reidlit("train", *run, "hydra.run.dir=uninterrupted").status == 0
    assert reidlit("train", *run, "trainer.max_epochs=1", "hydra.run.dir=interrupted").status == 0
    resumed = reidlit("train", *run, "ckpt_path=last", "hydra.run.dir=interrupted")
    assert resumed.status == 0, resumed.err
    one, two = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("uninterrupted", "interrupted")
    )
    for tensors in (one["state_dict"], one["current_model_state"], one["attributes"]["head"]):
        assert len(tensors) > 1
    assert all(torch.equal(value, two["state_dict"][name]) for name, value in one["state_dict"].items())
    assert all(torch.equal(value, two["attributes"]["head"][name]) for name, value in one["attributes"]["head"].items())


@pytest.mark.slow
@pytest.mark.usefixtures("market")
def test_two_processes_train(process, tmp_path):
    """DDP fails at the second step if a parameter has no gradient."""
    devices = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    running = process("train", *TRAIN, *JOINT, *devices, "data.batch_size=6", "hydra.run.dir=two")
    printed, _ = running.communicate(timeout=280)
    assert running.returncode == 0, printed
    assert 0 <= metrics(tmp_path / "two")["test/synthetic/mA"] <= 1


@pytest.mark.usefixtures("market")
def test_invalid_arguments_are_named(trained, reidlit):
    for arguments, expected in (
        (["engine=joint_attributes"], "engine.attributes_file=null"),
        ([*JOINT[:1], "engine.attributes_file=no.mat"], "no.mat"),
        ([*JOINT, f"ckpt_path={trained}/checkpoints/last.ckpt"], "engine._target_"),
    ):
        done = reidlit("train", *TRAIN, *arguments)
        assert done.status == 1
        assert expected in done.err
    sizes = ",".join(item.removeprefix("data.").replace("=", ":") for item in TINY[:6])
    several = ["data=multi", f"data.sources=[{{synthetic:{{{sizes}}}}}]", *TINY[6:], "data.batch_size=12"]
    done = reidlit("train", *several, *JOINT, "callbacks.progress=null")
    assert done.status == 1
    assert "engine.attributes_file=market_attribute.mat" in done.err
    assert "Traceback" not in done.err

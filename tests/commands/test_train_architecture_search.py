"""Architecture search on the command line, and training of the architecture that it finds."""

import csv

import pytest
import torch
from omegaconf import OmegaConf

from helpers.cli_settings import TRAIN
from reidlit.models.backbones.osnet_ain import BLOCKS, CANDIDATES

SEARCH = [*TRAIN, "engine=architecture_search", "model.backbone.width=0.25", "logger=csv", "test=false"]
SEARCH += ["engine.temperature=8", "engine.decay_every=1", "scheduler=constant"]


def weights(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_search_writes_an_architecture_that_trains(reidlit, tmp_path):
    run, found = tmp_path / "run", tmp_path / "run" / "conf" / "model" / "osnet_ain_found.yaml"
    neck = ["model/neck=bnneck", "model.neck.test=before"]
    done = reidlit("train", *SEARCH, *neck, f"hydra.run.dir={run}")
    assert done.status == 0, done.err
    assert f"reidlit train --config-dir {run / 'conf'} model=osnet_ain_found" in done.out
    assert [path.name for path in found.parent.iterdir()] == [found.name]
    with (run / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["search/entropy"]]
    assert [float(row["search/temperature"]) for row in rows] == [8, 4]

    text, spec = found.read_text(), OmegaConf.load(found)
    entropy = float(rows[1]["search/entropy"])
    assert all(value in text for value in ("synthetic", "epochs: 2", "temperature: 4", f"{entropy:.3f} nats"))
    state = weights(run)
    logits = [state[f"model.backbone.{name}.logits"] for name in BLOCKS]
    assert spec.backbone.layout == [CANDIDATES[int(row.argmax())] for row in logits]
    assert spec.backbone.width == 0.25
    for name, row in zip(BLOCKS, logits, strict=True):
        probabilities = zip(CANDIDATES, row.softmax(0).tolist(), strict=True)
        assert f"{name}: " + ", ".join(f"{candidate} {value:.3f}" for candidate, value in probabilities) in text

    options = ["--config-dir", run / "conf", "model=osnet_ain_found"]
    done = reidlit("train", *options, *TRAIN, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/found")
    assert done.status == 0, done.err
    model = torch.load(tmp_path / "found" / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]["model"]
    assert model["backbone"]["layout"] == spec.backbone.layout
    assert model["neck"] == {"_target_": "reidlit.models.neck.BNNeck", "test": "before"}
    changed = reidlit("train", *options, "model/neck=fc512", "--cfg", "job", "-p", "model.neck")
    assert changed.status == 0, changed.err


@pytest.mark.slow
def test_resumed_search_equals_uninterrupted_search(reidlit, tmp_path):
    """Compare weights, logits of the choices, temperature, and the written file."""
    for name, options in {
        "uninterrupted": ["trainer.max_epochs=3"],
        "interrupted": [],
        "resumed": ["trainer.max_epochs=3", f"ckpt_path={tmp_path}/interrupted/checkpoints/last.ckpt"],
    }.items():
        done = reidlit("train", *SEARCH, *options, f"hydra.run.dir={tmp_path}/{name}")
        assert done.status == 0, done.err
    one, two, before = (weights(tmp_path / name) for name in ("uninterrupted", "resumed", "interrupted"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert two["model.backbone.conv3.0.temperature"] == 2
    assert not torch.equal(*(state["model.backbone.conv3.0.logits"] for state in (two, before)))
    file = "conf/model/osnet_ain_found.yaml"
    assert (tmp_path / "uninterrupted" / file).read_text() == (tmp_path / "resumed" / file).read_text()


@pytest.mark.slow
def test_testing_the_search_network_warns(reidlit, tmp_path):
    with pytest.warns(UserWarning, match=r"test=false"):
        done = reidlit("train", *SEARCH, "test=true", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path}/run")
    assert done.status == 0, done.err


def test_search_engine_selects_its_model_and_callback(reidlit):
    composed = reidlit("train", "engine=architecture_search", "callbacks=best", "--cfg", "job")
    cfg = OmegaConf.create(composed.out)
    assert cfg.model.backbone._target_.endswith("OSNetAINSearch")
    assert cfg.callbacks.found_architecture._target_.endswith("FoundArchitecture")
    assert "best" in cfg.callbacks
    for choice in (
        ["engine=architecture_search", "model=osnet_x0_25"],
        ["model=osnet_x0_25", "engine=architecture_search"],
    ):
        refused = reidlit("train", *TRAIN, *choice)
        assert refused.status == 1
        assert all(text in refused.err for text in ("engine=architecture_search", "model=osnet_ain_search"))

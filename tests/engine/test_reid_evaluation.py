"""Evaluation inside the Trainer: several test sets in one run, on one process and on two."""

import json
import os
import subprocess
import sys

import pytest

from helpers.nested import flat

pytestmark = pytest.mark.slow

RUN = """
import json, sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from reidlit.data.splits import EvalSet
from reidlit.data.datasets.synthetic import Synthetic
from reidlit.data.transforms import Resize
from reidlit.data.transforms.pipeline import Pipeline
from reidlit.engine.reid import ReIDModule
from reidlit.runs.result import RunResult
from reidlit.runs.result_tables import print_results

root, devices, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Two(Synthetic):
    # The whole test set, and its first half under another name.
    def setup(self, stage):
        super().setup(stage)
        whole = self.test_sets["synthetic"]
        self.test_sets = {"whole": whole, "half": EvalSet(whole.query[:7], whole.gallery[:15])}


resize = Pipeline([Resize(64, 32)])
data = Two(
    root, num_identities=12, num_test=6, num_cameras=2, shots=3, image_height=64, image_width=32, train_transform=resize,
    name=None, test_transform=resize, sampler=None, batch_size=8, test_batch_size=5, num_workers=0, val_fraction=0, combineall=False, k_tfm=1, pack=None, pack_dir='', seed=1,
)
torch.manual_seed(0)
module = ReIDModule(
    model={"_target_": "reidlit.models.build.assemble", **json.loads(sys.argv[4])},
    pids=[0],
    evaluation={"verification": True, "camera_pairs": True, "top_k": 5, "flip": True},
)
strategy = "auto" if devices == 1 else pl.strategies.DDPStrategy(process_group_backend="gloo")
trainer = pl.Trainer(
    accelerator="cpu", devices=devices, strategy=strategy, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    precision="64-true",  # batches of another size round an embedding otherwise
)
trainer.test(module, data, verbose=False)
result = RunResult(tuple(module.result(name) for name in data.test_sets))
logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
if trainer.is_global_zero:
    print_results(result)
Path(f"{out}_{trainer.global_rank}.json").write_text(json.dumps([result.to_json(), logged]))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, drawn):
    """What one process and each of two found, and what was printed."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from reidlit.config import CONFIG_DIR

    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        model = OmegaConf.to_container(compose("test", ["model=osnet_x0_25"]).model)
    folder = tmp_path_factory.mktemp("two")
    script = folder / "run.py"
    script.write_text(RUN)
    printed = {}
    for devices in (1, 2):
        result = subprocess.run(
            [sys.executable, script, drawn, str(devices), f"{folder}/{devices}", json.dumps(model)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        printed[devices] = result.stdout
    return printed, {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_two_processes_find_what_one_finds(runs):
    _, found = runs
    assert set(found) == {"1_0", "2_0", "2_1"}
    assert found["2_0"] == found["2_1"]
    for one, two in zip(found["1_0"], found["2_0"], strict=True):
        assert flat(two) == pytest.approx(flat(one), rel=1e-9, abs=1e-12)
        assert {key: two[key] for key in two if "num_" in key} == {key: one[key] for key in one if "num_" in key}


def test_each_test_set_has_its_scores_and_one_table_shows_them(runs):
    printed, found = runs
    figures, logged = found["1_0"]
    assert figures["test/whole/num_queries"] == 12
    assert figures["test/half/num_queries"] == 7
    assert logged["test/whole/mAP"] == pytest.approx(figures["test/whole/mAP"])
    assert logged["test/half/AUC"] == pytest.approx(figures["test/half/AUC"])
    for output in printed.values():
        assert output.count("results in percent") == 1
        assert "test/whole" in output
        assert "test/half" in output

"""Evaluation with the Trainer: several test sets in one run, on one and on two processes."""

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


class TwoTestSets(Synthetic):
    # The complete test set, and its first half.
    def setup(self, stage):
        super().setup(stage)
        full = self.test_sets["synthetic"]
        self.test_sets = {"full": full, "half": EvalSet(full.query[:7], full.gallery[:15])}


resize = Pipeline([Resize(64, 32)])
data = TwoTestSets(
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
    precision="64-true",  # in float32, embeddings would depend on the batch size
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
    """Printed output by number of processes, and results by process, on one and on two processes."""
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


def test_two_processes_have_the_results_of_one(runs):
    _, results = runs
    assert set(results) == {"1_0", "2_0", "2_1"}
    assert results["2_0"] == results["2_1"]
    for one, two in zip(results["1_0"], results["2_0"], strict=True):
        assert flat(two) == pytest.approx(flat(one), rel=1e-9, abs=1e-12)
        assert {key: two[key] for key in two if "num_" in key} == {key: one[key] for key in one if "num_" in key}


def test_one_table_contains_all_test_sets(runs):
    printed, results = runs
    metrics, logged = results["1_0"]
    assert metrics["test/full/num_queries"] == 12
    assert metrics["test/half/num_queries"] == 7
    assert logged["test/full/mAP"] == pytest.approx(metrics["test/full/mAP"])
    assert logged["test/half/AUC"] == pytest.approx(metrics["test/half/AUC"])
    for output in printed.values():
        headers = [line for line in output.splitlines() if "test/full" in line and "test/half" in line]
        assert len(headers) == 1

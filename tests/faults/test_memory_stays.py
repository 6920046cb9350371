"""Memory of a long training run, and of an evaluation with half a million distractors."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import pytorch_lightning as pl

from helpers import evaluate_distractors
from helpers.cli_settings import TRAIN

pytestmark = pytest.mark.timeout(7200)  # the long form
EXTRA = 450  # megabytes in addition to the embeddings; see docs/faults.md


class Memory(pl.Callback):
    """Record of the memory of the process after each step, in megabytes."""

    measured: ClassVar[list[float]] = []

    def on_train_batch_end(self, *_):
        """Measure the memory."""
        self.measured.append(resident_memory())


@pytest.mark.slow
def test_long_training_does_not_leak_memory(reidlit, long):
    """Train with the default logs, checkpoints and callbacks, and with data read from files.

    36,000 steps correspond to one hour at ten steps per second.
    """
    steps = 36_000 if long else 120
    run = [*TRAIN, "data.batch_size=4", "test=false", "trainer.max_epochs=1000000", f"+trainer.max_steps={steps}"]
    run += ["scheduler=constant", "transforms=flip_crop_erase", f"+callbacks.memory._target_={__name__}.Memory"]
    Memory.measured.clear()
    done = reidlit("train", *run, "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert len(Memory.measured) == steps
    quarter = steps // 4
    before, after = (statistics.median(Memory.measured[start : start + quarter]) for start in (quarter, 3 * quarter))
    assert after - before < (8 if long else 4), f"{before:.1f} MB, then {after:.1f} MB"


def resident_memory():
    """Return the resident memory of this process in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


@pytest.mark.slow
def test_evaluation_with_distractors_stays_within_memory_bound(long):
    """Run in a new process. The distance matrix would need 7 GB in the long form and 0.7 GB in the short form."""
    distractors = 500_000 if long else 35_000
    script = Path(evaluate_distractors.__file__)
    done = subprocess.run([sys.executable, script, str(distractors)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["valid"] == 3368
    assert found["mAP"] > 0.9
    assert found["evaluation"] < EXTRA
    assert found["matrix"] > EXTRA  # the measurement detects a full distance matrix

"""Memory: a long training does not grow, and an evaluation with half a million distractors stays inside its bound."""

import statistics
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import pytorch_lightning as pl

from tests_settings import TRAIN

pytestmark = pytest.mark.timeout(7200)  # the long form
EXTRA = 450  # megabytes beyond the embeddings; the README says 400


class Memory(pl.Callback):
    """What the process holds after each step, in megabytes."""

    seen: ClassVar[list[float]] = []

    def on_train_batch_end(self, *_):
        """Look."""
        lines = Path("/proc/self/status").read_text().splitlines()
        self.seen.append(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000)


def test_a_long_training_does_not_grow(reidlit, long):
    """With all that a run has by default: logs, checkpoints each epoch, watches; the data are read from files.

    36,000 steps are an hour at ten a second, which is what OSNet x0.25 does on a GPU's batch.
    """
    steps = 36_000 if long else 160
    run = [*TRAIN, "data.batch_size=4", "test=false", "trainer.max_epochs=1000000", f"+trainer.max_steps={steps}"]
    run += ["scheduler=constant", "transforms=flip_crop_erase", "+callbacks.memory._target_=test_memory_stays.Memory"]
    Memory.seen.clear()
    done = reidlit("train", *run, "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert len(Memory.seen) == steps
    quarter = steps // 4
    before, after = (statistics.median(Memory.seen[start : start + quarter]) for start in (quarter, 3 * quarter))
    assert after - before < (8 if long else 4), f"{before:.1f} MB, then {after:.1f} MB"


EVALUATE = """
import sys
from pathlib import Path
import numpy as np
import reidlit

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1000

def drawn(count):
    pids = np.arange(count) % 750
    return people[pids] + 0.5 * noise.standard_normal((count, 512), np.float32), pids, np.arange(count) // 750 % 6

noise = np.random.default_rng(0)
people = noise.standard_normal((750, 512), np.float32)
query, q_pids, q_camids = drawn(3368)
few, g_pids, g_camids = drawn(15913)
distractors = int(sys.argv[1])
gallery = np.empty((len(few) + distractors, 512), np.float32)
gallery[: len(few)] = few
for start in range(len(few), len(gallery), 10_000):
    part = gallery[start : start + 10_000]
    noise.standard_normal(out=part, dtype=np.float32)
g_pids, g_camids = np.pad(g_pids, (0, distractors), constant_values=-7), np.pad(g_camids, (0, distractors))
first = [part[::7] for part in (query, few, q_pids, g_pids[: len(few)], q_camids, g_camids[: len(few)])]
reidlit.evaluate(*first)  # compiles
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
before = memory("VmRSS")
scores = reidlit.evaluate(query, gallery, q_pids, g_pids, q_camids, g_camids)
print(memory("VmHWM") - before, scores.num_valid, float(scores.mAP))
"""


def test_an_evaluation_with_half_a_million_distractors_stays_inside_its_bound(long):
    """The matrix of distances would take 7 GB, or, in the short form, 0.75 GB."""
    distractors = 500_000 if long else 40_000
    printed = subprocess.run(
        [sys.executable, "-c", EVALUATE, str(distractors)], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    extra, valid, mean_ap = map(float, printed.split())
    assert valid == 3368
    assert mean_ap > 0.9
    assert extra < EXTRA

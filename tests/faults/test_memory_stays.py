"""Memory: a long training does not grow, and an evaluation with half a million distractors stays inside its bound."""

import statistics
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl

import reidlit as package
from tests_settings import TRAIN

pytestmark = pytest.mark.timeout(7200)  # the long form
EXTRA = 450  # megabytes beyond the embeddings; the README says 400


class Memory(pl.Callback):
    """What the process holds after each step, in megabytes."""

    seen: ClassVar[list[float]] = []

    def on_train_batch_end(self, *_):
        """Look."""
        self.seen.append(held())


def test_a_long_training_does_not_grow(reidlit, long):
    """With all that a run has by default: logs, checkpoints each epoch, watches; the data are read from files.

    36,000 steps are an hour of ten steps a second.
    """
    steps = 36_000 if long else 120
    run = [*TRAIN, "data.batch_size=4", "test=false", "trainer.max_epochs=1000000", f"+trainer.max_steps={steps}"]
    run += ["scheduler=constant", "transforms=flip_crop_erase", "+callbacks.memory._target_=test_memory_stays.Memory"]
    Memory.seen.clear()
    done = reidlit("train", *run, "hydra.run.dir=run")
    assert done.status == 0, done.err
    assert len(Memory.seen) == steps
    quarter = steps // 4
    before, after = (statistics.median(Memory.seen[start : start + quarter]) for start in (quarter, 3 * quarter))
    assert after - before < (8 if long else 4), f"{before:.1f} MB, then {after:.1f} MB"


def held(name="VmRSS"):
    """What this process holds, or at most held (VmHWM), in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1000


def test_an_evaluation_with_half_a_million_distractors_stays_inside_its_bound(long):
    """Drawn embeddings of Market-1501's sizes. The matrix of distances would take 7 GB, in the short form 0.7 GB."""
    noise = np.random.default_rng(0)
    people = noise.standard_normal((750, 512), np.float32)

    def labels(count):
        return np.arange(count) % 750, np.arange(count) // 750 % 6

    (q_pids, q_camids), (g_pids, g_camids) = labels(3368), labels(15913)
    query = people[q_pids] + 0.5 * noise.standard_normal((3368, 512), np.float32)
    distractors = 500_000 if long else 35_000
    gallery = np.empty((15913 + distractors, 512), np.float32)
    noise.standard_normal(out=gallery, dtype=np.float32)
    gallery[:15913] = people[g_pids] + 0.5 * gallery[:15913]
    g_pids, g_camids = np.pad(g_pids, (0, distractors), constant_values=-7), np.pad(g_camids, (0, distractors))
    first = [part[::7] for part in (query, gallery[:15913], q_pids, g_pids[:15913], q_camids, g_camids[:15913])]
    package.evaluate(*first)  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = held()
    scores = package.evaluate(query, gallery, q_pids, g_pids, q_camids, g_camids)
    assert scores.num_valid == 3368
    assert scores.mAP > 0.9
    assert 0 < held("VmHWM") - before < EXTRA

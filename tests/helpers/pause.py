"""Trainings that pause until they are killed, so that tests do not depend on their speed."""

import time

CALLBACK = """
import time
from pathlib import Path

import pytorch_lightning as pl


class Pause(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        while trainer.global_step == self.step and not trainer.received_sigterm:
            Path(__file__).with_name("paused").touch()
            time.sleep(0.01)
"""


def pause_after(folder, step):
    """Write the callback into the working folder of a command; return the overrides that add it."""
    (folder / "pause.py").write_text(CALLBACK)
    return ["--config-dir", str(folder), "+callbacks.pause._target_=pause.Pause", f"+callbacks.pause.step={step}"]


def wait_for_pause(folder, process):
    """Wait until the training has paused."""
    while not (folder / "paused").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)

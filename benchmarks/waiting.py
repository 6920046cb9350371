"""Fraction of a training step that is spent waiting for images, with the code of `reidlit train`.

    python benchmarks/waiting.py [--model osnet_x1_0] [--device cpu] [--steps 60] [--workers N] [--pack decoded]

The images are synthetic 128 x 64 JPEG files, enlarged to 256 x 128 with flip, crop and erasing, in batches of 64. Each step ends
with a synchronization of the device, so that the time until the next step is loading only. The first steps, in which workers start
and networks compile, are not counted. gpu.py runs this benchmark on a GPU.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from reidlit.commands._data import build_datamodule
from reidlit.commands._settings import plain
from reidlit.config import CONFIG_DIR
from reidlit.engine.reid import ReIDModule

WARM_UP = 10


class Clock(pl.Callback):
    """Callback that measures each step and the time between two steps."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.waits: list[float] = []
        self._start = self._end = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Start a step: the batch is on the device."""
        self._start = time.perf_counter()
        if self._end:
            self.waits.append(self._start - self._end)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """End a step after the device has finished it."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self._end = time.perf_counter()
        self.steps.append(self._end - self._start)


def waiting(
    model: str,
    device: str,
    steps: int,
    workers: int | None,
    pack: str | None,
    precision: str = "32-true",
    batch: int = 64,
) -> dict[str, Any]:
    """Train for some steps; return the median seconds of computing and of waiting."""
    images = batch * (steps + WARM_UP)
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        overrides = [f"model={model}", "transforms=flip_crop_erase", f"data.root={folder}", f"data.pack_dir={folder}"]
        overrides += [
            "data.height=256",
            "data.width=128",
            f"data.batch_size={batch}",
            "data.num_test=1",
            "data.shots=4",
        ]
        overrides += [
            f"data.num_identities={images // 24 + 2}",
            f"data.num_workers={'null' if workers is None else workers}",
        ]
        overrides += [f"data.pack={pack or 'null'}", f"trainer.precision={precision}", "trainer.max_epochs=1"]
        overrides += [f"trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}"]
        cfg = compose("train", overrides)
        datamodule = build_datamodule(cfg)
        datamodule.prepare_data()
        datamodule.setup("fit")
        module = ReIDModule(
            model=plain(cfg.model),
            loss=plain(cfg.loss),
            optimizer=plain(cfg.optimizer),
            scheduler=plain(cfg.scheduler),
            pids=datamodule.pids,
            image_size=[256, 128],
        )
        clock = Clock()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer: pl.Trainer = instantiate(cfg.trainer, callbacks=[clock], **quiet)
        trainer.fit(module, datamodule)
    step, wait = (statistics.median(values[WARM_UP:]) for values in (clock.steps, clock.waits))
    return {
        "step": round(step, 5),
        "wait": round(wait, 5),
        "share_waiting": round(wait / (step + wait), 4),
        "images_per_second": round(batch / (step + wait), 1),
        "steps": len(clock.steps) - WARM_UP,
    }


def main() -> None:
    """Run the measurement and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="osnet_x1_0")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--pack", choices=("decoded",))
    arguments = parser.parse_args()
    result = waiting(
        arguments.model, arguments.device, arguments.steps, arguments.workers, arguments.pack, batch=arguments.batch
    )
    print(json.dumps({**vars(arguments), **result}, indent=2))


if __name__ == "__main__":
    main()

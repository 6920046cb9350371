"""One training of one side in a process of its own, with a clock on its loader: what training.py starts and compares.

Nothing is imported here but what both sides need, so that neither's memory and start-up are those of the other.
"""

import contextlib
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.utils.data import DataLoader

ALL_EPOCHS = 250  # more than are run: what is measured ends by the number of steps
LR = 3e-4
LOSSES = {"softmax": "softmax", "triplet": "softmax_triplet"}  # ours by Torchreid's name
BF16 = ("trainer.precision=bf16-mixed",)
OURS: dict[str, tuple[str, ...]] = {
    "reidlit": (),
    "reidlit_bf16": BF16,
    "reidlit_bf16_search": (*BF16, "+trainer.benchmark=true"),  # cuDNN's, which Torchreid's script switches on
    "reidlit_bf16_compiled": (*BF16, "engine.compile_model=true"),
}
OURS |= {f"{side}_packed": (*overrides, "data.pack=decoded") for side, overrides in OURS.items()}
SIDES = ("torchreid", *OURS)
MB = 1e6


class Setting(NamedTuple):
    """What all runs share."""

    root: str
    packs: str
    device: str
    batch: int
    height: int
    width: int
    workers: int
    warm_up: int
    steps: int
    rounds: int

    @property
    def last(self) -> int:
        """How many steps are run."""
        return self.warm_up + self.steps * (2 if self.device == "cuda" else 1)


class Finished(Exception):  # noqa: N818  # not an error
    """What was to be measured is."""


def child(side: str, model: str, loss: str, given: str) -> None:
    """Trains in this process and prints what was measured."""
    started, *fields = json.loads(given)
    setting = Setting(*fields)
    watch = Stopwatch(setting, started, stop=side == "torchreid")
    ask = DataLoader.__iter__

    def watched(loader: DataLoader[Any]) -> Iterator[Any]:
        return watch.batches(lambda: ask(loader))

    with tempfile.TemporaryDirectory() as folder, patch.object(DataLoader, "__iter__", watched):
        if side == "torchreid":
            with contextlib.suppress(Finished):
                train_theirs(model, loss, setting, folder)
        else:
            train_ours(model, loss, OURS[side], setting, folder)
    print("\n" + json.dumps(watch.found()))


class Stopwatch:
    """Notes when a training loop asks its loader for a batch, and when it gets it.

    Args:
        setting: says which steps count.
        started: when the process was started, in seconds since the epoch.
        stop: whether to end the loop by `Finished`; else it ends by itself, a step later.
    """

    def __init__(self, setting: Setting, started: float, stop: bool) -> None:
        self.setting, self.started, self.stop = setting, started, stop
        self.cuda = setting.device == "cuda"
        self.asked: list[float] = []
        self.got: list[float] = []
        self.first = math.nan
        self.megabytes: dict[str, float] = {}

    def batches(self, begin: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        """An epoch; starting the workers is part of the first wait."""
        self._ask()
        for batch in begin():
            self.got.append(time.perf_counter())
            yield batch
            self._ask()
        self.asked.pop()  # nothing came: until the next epoch is asked for, nobody waits for images

    def found(self) -> dict[str, Any]:
        """The rate over the first window, the share of waiting over the last, which on the CPU is the same."""
        start, end, last = self.setting.warm_up, self.setting.warm_up + self.setting.steps, self.setting.last
        alone = last - self.setting.steps
        waited = sum(got - asked for asked, got in zip(self.asked[alone:last], self.got[alone:last], strict=True))
        return {
            "images_per_second": self.setting.batch * self.setting.steps / (self.asked[end] - self.asked[start]),
            "share_waiting": waited / (self.asked[last] - self.asked[alone]),
            "seconds_to_first_step": self.first,
            "megabytes": self.megabytes,
        }

    def _ask(self) -> None:
        step, rate_ends = len(self.asked), self.setting.warm_up + self.setting.steps
        if self.cuda and (step in (1, self.setting.warm_up) or step >= rate_ends):
            torch.cuda.synchronize()
        self.asked.append(time.perf_counter())
        if step == 1 and math.isnan(self.first):
            self.first = time.time() - self.started
        if step == self.setting.last and not self.megabytes:
            self.megabytes = memory(self.cuda)
            if self.stop:
                raise Finished


def memory(cuda: bool) -> dict[str, float]:
    """Peaks of this process and of the loader's workers, in MB: their resident sets, where Linux tells, and the GPU's.

    What processes share counts in the resident set of each. `together_now` is all of them at this moment, with what they
    share counted once.
    """
    found: dict[str, float] = {}
    if Path("/proc/self/smaps_rollup").exists():
        own, *workers = [os.getpid(), *(process.pid for process in multiprocessing.active_children() if process.pid)]
        found["process"] = kibibytes(own, "status", "VmHWM") * 1024 / MB
        found["workers"] = sum(kibibytes(pid, "status", "VmHWM") for pid in workers) * 1024 / MB
        found["together_now"] = sum(kibibytes(pid, "smaps_rollup", "Pss") for pid in (own, *workers)) * 1024 / MB
    if cuda:
        found["gpu_allocated"] = torch.cuda.max_memory_allocated() / MB
        found["gpu_reserved"] = torch.cuda.max_memory_reserved() / MB
    return found


def kibibytes(pid: int, table: str, field: str) -> int:
    """A field of one of a process's tables."""
    lines = Path(f"/proc/{pid}/{table}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def train_theirs(
    model: str, loss: str, setting: Setting, folder: str, epochs: int = ALL_EPOCHS, lr: float = LR
) -> torch.nn.Module:
    """Trains by Torchreid's engine, until the stopwatch ends it or all epochs are done; without its own tests."""
    from torchreid.reid.data import ImageDataManager
    from torchreid.reid.engine import ImageSoftmaxEngine, ImageTripletEngine
    from torchreid.reid.models import build_model
    from torchreid.reid.optim import build_lr_scheduler, build_optimizer

    cuda = setting.device == "cuda"
    torch.backends.cudnn.benchmark = cuda
    data = ImageDataManager(
        root=setting.root,
        sources="market1501",
        height=setting.height,
        width=setting.width,
        transforms=["random_flip", "random_crop", "random_erase"],
        batch_size_train=setting.batch,
        workers=setting.workers,
        train_sampler="RandomIdentitySampler" if loss == "triplet" else "RandomSampler",
        use_gpu=cuda,
    )
    network: torch.nn.Module = build_model(model, data.num_train_pids, loss=loss, pretrained=False, use_gpu=cuda)
    if cuda:
        network = torch.nn.DataParallel(network).cuda()
    optimizer = build_optimizer(network, optim="amsgrad", lr=lr, adam_beta2=0.999)
    scheduler = build_lr_scheduler(optimizer, "cosine", max_epoch=epochs)
    kind = ImageTripletEngine if loss == "triplet" else ImageSoftmaxEngine
    engine = kind(data, network, optimizer, scheduler=scheduler, use_gpu=cuda)
    engine.test = lambda *_, **__: 0.0  # minutes in Python, for a figure that nobody reads
    engine.run(save_dir=folder, max_epoch=epochs, print_freq=20)
    return network


def train_ours(model: str, loss: str, overrides: Sequence[str], setting: Setting, folder: str) -> None:
    """Trains by the command line."""
    from reidlit import cli

    run = [f"+trainer.max_steps={setting.last + 1}", f"trainer.max_epochs={ALL_EPOCHS}", f"hydra.run.dir={folder}/run"]
    chosen = [f"model={model}", f"loss={LOSSES[loss]}", "optimizer=amsgrad", f"optimizer.lr={LR}", "test=false"]
    with patch.object(sys, "argv", ["reidlit", "train", *chosen, *data_options(setting), *run, *overrides]):
        cli.main()


def data_options(setting: Setting) -> list[str]:
    """What the configuration must say of images and device."""
    return [
        "data=market1501",
        "transforms=flip_crop_erase",
        f"data.root={setting.root}",
        f"data.pack_dir={setting.packs}",
        f"data.height={setting.height}",
        f"data.width={setting.width}",
        f"data.batch_size={setting.batch}",
        f"data.num_workers={setting.workers}",
        f"trainer.accelerator={'gpu' if setting.device == 'cuda' else 'cpu'}",
    ]


if __name__ == "__main__":
    child(*sys.argv[1:])

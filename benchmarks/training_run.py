"""Single training run of one side with a timed loader, which training.py starts in a separate process.

This module imports only what both sides need, so that the memory and start-up time of one do not include the other.
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

ALL_EPOCHS = 250  # more than are run: the measurement ends after a number of steps
LR = 3e-4
LOSSES = {"softmax": "softmax", "triplet": "softmax_triplet"}  # loss of reidlit for each loss of Torchreid
BF16 = ("trainer.precision=bf16-mixed",)
OURS: dict[str, tuple[str, ...]] = {
    "reidlit": (),
    "reidlit_bf16": BF16,
    "reidlit_bf16_search": (*BF16, "+trainer.benchmark=true"),  # cuDNN's search, which Torchreid's script enables
    "reidlit_bf16_compiled": (*BF16, "engine.compile_model=true"),
}
OURS |= {f"{side}_packed": (*overrides, "data.pack=decoded") for side, overrides in OURS.items()}
SIDES = ("torchreid", *OURS)
MB = 1e6


class Setting(NamedTuple):
    """Options of all runs."""

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
        """Number of steps to run."""
        return self.warm_up + self.steps * (2 if self.device == "cuda" else 1)


class Finished(Exception):  # noqa: N818  # not an error
    """Signal that the measurement is complete."""


def child(side: str, model: str, loss: str, options: str) -> None:
    """Train in this process and print the measurements."""
    started, *fields = json.loads(options)
    setting = Setting(*fields)
    watch = Stopwatch(setting, started, stop=side == "torchreid")
    iterate = DataLoader.__iter__

    def timed_iterate(loader: DataLoader[Any]) -> Iterator[Any]:
        return watch.batches(lambda: iterate(loader))

    with tempfile.TemporaryDirectory() as folder, patch.object(DataLoader, "__iter__", timed_iterate):
        if side == "torchreid":
            with contextlib.suppress(Finished):
                train_theirs(model, loss, setting, folder)
        else:
            train_ours(model, loss, OURS[side], setting, folder)
    print("\n" + json.dumps(watch.results()))


class Stopwatch:
    """Recorder of the times at which a training loop requests and receives batches.

    Args:
        setting: Options that determine which steps count.
        started: Time at which the process was started, in seconds since the epoch.
        stop: Whether to end the loop by raising `Finished`. Otherwise the loop ends by itself one step later.
    """

    def __init__(self, setting: Setting, started: float, stop: bool) -> None:
        self.setting, self.started, self.stop = setting, started, stop
        self.cuda = setting.device == "cuda"
        self.requested: list[float] = []
        self.received: list[float] = []
        self.first = math.nan
        self.megabytes: dict[str, float] = {}

    def batches(self, begin: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        """Yield the batches of an epoch; the first wait includes the start of the workers."""
        self._request()
        for batch in begin():
            self.received.append(time.perf_counter())
            yield batch
            self._request()
        self.requested.pop()  # no batch follows: until the next epoch starts, nothing waits for images

    def results(self) -> dict[str, Any]:
        """Return the rate over the first window and the fraction of waiting over the last, the same one on the CPU."""
        start, end, last = self.setting.warm_up, self.setting.warm_up + self.setting.steps, self.setting.last
        first = last - self.setting.steps
        windows = zip(self.requested[first:last], self.received[first:last], strict=True)
        waited = sum(received - requested for requested, received in windows)
        return {
            "images_per_second": self.setting.batch
            * self.setting.steps
            / (self.requested[end] - self.requested[start]),
            "share_waiting": waited / (self.requested[last] - self.requested[first]),
            "seconds_to_first_step": self.first,
            "megabytes": self.megabytes,
        }

    def _request(self) -> None:
        step, rate_ends = len(self.requested), self.setting.warm_up + self.setting.steps
        if self.cuda and (step in (1, self.setting.warm_up) or step >= rate_ends):
            torch.cuda.synchronize()
        self.requested.append(time.perf_counter())
        if step == 1 and math.isnan(self.first):
            self.first = time.time() - self.started
        if step == self.setting.last and not self.megabytes:
            self.megabytes = memory(self.cuda)
            if self.stop:
                raise Finished


def memory(cuda: bool) -> dict[str, float]:
    """Return the peak memory in MB of this process and of the workers (resident sets, on Linux only), and of the GPU.

    Shared memory counts in the resident set of each process. `together_now` is the current memory of all processes, with shared
    memory counted once.
    """
    megabytes: dict[str, float] = {}
    if Path("/proc/self/smaps_rollup").exists():
        main, *workers = [os.getpid(), *(process.pid for process in multiprocessing.active_children() if process.pid)]
        megabytes["process"] = kibibytes(main, "status", "VmHWM") * 1024 / MB
        megabytes["workers"] = sum(kibibytes(pid, "status", "VmHWM") for pid in workers) * 1024 / MB
        megabytes["together_now"] = sum(kibibytes(pid, "smaps_rollup", "Pss") for pid in (main, *workers)) * 1024 / MB
    if cuda:
        megabytes["gpu_allocated"] = torch.cuda.max_memory_allocated() / MB
        megabytes["gpu_reserved"] = torch.cuda.max_memory_reserved() / MB
    return megabytes


def kibibytes(pid: int, table: str, field: str) -> int:
    """Return a field of a table in /proc for a process."""
    lines = Path(f"/proc/{pid}/{table}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def train_theirs(
    model: str, loss: str, setting: Setting, folder: str, epochs: int = ALL_EPOCHS, lr: float = LR
) -> torch.nn.Module:
    """Train with Torchreid's engine, without its tests, until the stopwatch ends it or all epochs are done."""
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
    engine_class = ImageTripletEngine if loss == "triplet" else ImageSoftmaxEngine
    engine = engine_class(data, network, optimizer, scheduler=scheduler, use_gpu=cuda)
    engine.test = lambda *_, **__: 0.0  # would take minutes in Python and is not needed
    engine.run(save_dir=folder, max_epoch=epochs, print_freq=20)
    return network


def train_ours(model: str, loss: str, overrides: Sequence[str], setting: Setting, folder: str) -> None:
    """Train with the command line of reidlit."""
    from reidlit import cli

    run = [f"+trainer.max_steps={setting.last + 1}", f"trainer.max_epochs={ALL_EPOCHS}", f"hydra.run.dir={folder}/run"]
    recipe = [f"model={model}", f"loss={LOSSES[loss]}", "optimizer=amsgrad", f"optimizer.lr={LR}", "test=false"]
    with patch.object(sys, "argv", ["reidlit", "train", *recipe, *data_options(setting), *run, *overrides]):
        cli.main()


def data_options(setting: Setting) -> list[str]:
    """Return the overrides for the images and the device."""
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

"""Software and hardware environment of a run."""

import datetime
import os
import platform
from importlib.metadata import version

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import CUDAAccelerator

PACKAGES = ("reidlit", "torch", "torchvision", "pytorch-lightning", "timm", "numpy", "numba")


def environment(trainer: Trainer) -> dict[str, str]:
    """Return the current time, the hardware and package versions by name, without host and user names."""
    gpu = torch.cuda.get_device_name() if isinstance(trainer.accelerator, CUDAAccelerator) else None
    return {
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "device": f"{trainer.world_size} x {gpu}" if gpu else f"{os.cpu_count()} CPU cores",
        "precision": str(trainer.precision),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }

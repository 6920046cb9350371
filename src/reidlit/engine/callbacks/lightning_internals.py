"""Trainer state that Lightning or torch offers only through undeclared attributes."""

from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer


def pending_scaler(trainer: pl.Trainer, optimizer: Optimizer) -> Any:
    """Return the gradient scaler if the gradients of `optimizer` are still scaled before its step, else None.

    Mixed precision in fp16 scales the loss. Lightning unscales the gradients before the optimizer's step, except for a
    fused optimizer, which unscales them itself within its step.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler if getattr(optimizer, "_step_supports_amp_scaling", False) else None


def is_logged(trainer: pl.Trainer, step: int, first: bool = False) -> bool:
    """Return True if the loggers record an optimizer step.

    Args:
        trainer: Trainer, whose `log_every_n_steps` decides.
        step: Number of the step, from 1.
        first: Whether the first step counts as recorded if logging is enabled.
    """
    every = getattr(trainer, "log_every_n_steps", 0)
    return bool(every) and (step % every == 0 or (first and step == 1))

"""Learning-rate schedules.

A schedule maps the time in epochs, including fractions, to a fraction of the base learning rate. The rate can therefore
be updated once per epoch or once per step.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from reidlit.spec import build

INTERVALS = ("epoch", "step")


class Schedule(Protocol):
    """Interface of learning-rate schedules."""

    def __call__(self, epoch: float) -> float:
        """Return the fraction of the base learning rate after `epoch` epochs, 0 or more."""


class Constant:
    """Constant learning rate."""

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        return 1.0


class Step:
    """Step decay: the learning rate is multiplied by `gamma` every `step_size` epochs.

    Args:
        step_size: Number of epochs between two decays, at least 1.
        gamma: Factor of a decay, above 0.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1 or gamma <= 0:
            raise ValueError(
                f"scheduler.step_size={step_size} must be at least 1, and scheduler.gamma={gamma} must be above 0."
            )
        self.step_size = step_size
        self.gamma = gamma

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        return math.pow(self.gamma, epoch // self.step_size)


class MultiStep:
    """Step decay at milestones: the learning rate is multiplied by `gamma` at each milestone.

    Args:
        milestones: Epochs in ascending order.
        gamma: Factor of a decay, above 0.

    Raises:
        ValueError: If the milestones are not in ascending order, or gamma is not positive.
    """

    def __init__(self, milestones: Sequence[int], gamma: float = 0.1) -> None:
        if sorted(set(milestones)) != list(milestones) or gamma <= 0:
            raise ValueError(
                f"scheduler.milestones={list(milestones)} must be in ascending order without repetitions, and "
                f"scheduler.gamma={gamma} must be above 0."
            )
        self.milestones = list(milestones)
        self.gamma = gamma

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        return math.pow(self.gamma, sum(epoch >= milestone for milestone in self.milestones))


class Cosine:
    """Cosine annealing, after an optional phase at the base learning rate.

    Sources: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017; He et al.,
    "FastReID: A Pytorch Toolbox for General Instance Re-identification", ACM Multimedia 2023 (flat phase).

    Args:
        max_epochs: Epoch in which the schedule ends.
        flat: Fraction of `max_epochs` that the learning rate stays constant before it decreases, at least 0 and below
            1.
        final: Fraction of the base learning rate at the end, between 0 and 1.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, max_epochs: float, flat: float = 0.0, final: float = 0.0) -> None:
        if max_epochs <= 0 or not 0 <= flat < 1 or not 0 <= final <= 1:
            raise ValueError(
                f"scheduler.flat={flat} must be at least 0 and below 1, scheduler.final={final} must be between 0 and "
                f"1, and max_epochs={max_epochs} must be above 0."
            )
        self.max_epochs = max_epochs
        self.flat_epochs = flat * max_epochs
        self.final = final

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        progress = min(max(epoch - self.flat_epochs, 0) / (self.max_epochs - self.flat_epochs), 1)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2


class OneCycle:
    """One-cycle schedule: the learning rate rises to its base value and then decreases, each along half a cosine.

    Unlike in the paper, the momentum is constant.

    Source: Smith, Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018.

    Args:
        max_epochs: Epoch in which the schedule ends.
        rise: Fraction of `max_epochs` in which the learning rate rises, above 0 and below 1.
        first: Fraction of the base learning rate at the start, between 0 and 1.
        final: Fraction of the base learning rate at the end, between 0 and 1.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, max_epochs: float, rise: float = 0.3, first: float = 0.04, final: float = 4e-6) -> None:
        if max_epochs <= 0 or not 0 < rise < 1 or not 0 <= first <= 1 or not 0 <= final <= 1:
            raise ValueError(
                f"scheduler.rise={rise} must be above 0 and below 1, scheduler.first={first} and "
                f"scheduler.final={final} must be between 0 and 1, and max_epochs={max_epochs} must be "
                "above 0."
            )
        self.peak_epoch = rise * max_epochs
        self.up = Cosine(self.peak_epoch, final=first)
        self.down = Cosine(max_epochs - self.peak_epoch, final=final)

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        return self.up(self.peak_epoch - epoch) if epoch < self.peak_epoch else self.down(epoch - self.peak_epoch)


class WarmUp:
    """Linear warm-up, followed by another schedule.

    Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017.

    Args:
        schedule: Schedule that starts after the warm-up.
        epochs: Length of the warm-up in epochs; 0 for no warm-up.
        factor: Fraction of the base learning rate at the start, above 0 and at most 1.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, schedule: Schedule, epochs: float, factor: float) -> None:
        if epochs < 0 or not 0 < factor <= 1:
            raise ValueError(
                f"scheduler.warmup_epochs={epochs} must be at least 0, and scheduler.warmup_factor={factor} must be "
                "above 0 and at most 1."
            )
        self.schedule = schedule
        self.epochs = epochs
        self.factor = factor

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        if epoch < self.epochs:
            return self.factor + (1 - self.factor) * epoch / self.epochs
        return self.schedule(epoch - self.epochs)


def build_scheduler(
    optimizer: Optimizer, spec: Mapping[str, Any], steps_per_epoch: Callable[[], float] = lambda: 1
) -> LambdaLR:
    """Build the learning-rate scheduler of an optimizer.

    Args:
        optimizer: Optimizer with base learning rates.
        spec: Spec of a `Schedule`, with up to three additional keys:

            - `warmup_epochs`: Length of a linear warm-up before the schedule, 0 by default. `max_epochs` of the
              schedule includes it.
            - `warmup_factor`: Fraction of the base learning rate at the start of the warm-up, 0.01 by default.
            - `interval`: "epoch" to update the rate once per epoch, the default, or "step" for every optimizer step.
        steps_per_epoch: Function that returns the number of optimizer steps per epoch. It is called at every step,
            because the number may not be known at first; not used with `interval: epoch`.

    Raises:
        ValueError: If a number is out of range, the interval is unknown, or the schedule does not accept the spec.
    """
    arguments = dict(spec)
    epochs, factor = arguments.pop("warmup_epochs", 0), arguments.pop("warmup_factor", 0.01)
    interval = arguments.pop("interval", "epoch")
    if interval not in INTERVALS:
        raise ValueError(f"scheduler.interval={interval!r} is invalid: must be one of {', '.join(INTERVALS)}.")
    if "max_epochs" in arguments:
        if epochs >= arguments["max_epochs"]:
            raise ValueError(
                f"scheduler.warmup_epochs={epochs} is invalid: must be below "
                f"trainer.max_epochs={arguments['max_epochs']}."
            )
        arguments["max_epochs"] -= epochs
    schedule = WarmUp(build(arguments), epochs, factor)
    by_step = interval == "step"
    # Pass a function: LambdaLR would store the attributes of a callable object in checkpoints, which must stay plain.
    return LambdaLR(optimizer, lambda count: schedule(count / steps_per_epoch() if by_step else count))

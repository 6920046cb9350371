"""Learning-rate schedules: what share of the full rate holds at a time, counted in epochs and their fractions.

As plain functions of time they serve alike for steps once an epoch and once a batch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from reidlit.spec import build

INTERVALS = ("epoch", "step")


class Schedule(Protocol):
    """A schedule."""

    def __call__(self, epoch: float) -> float:
        """The share of the full rate after `epoch` epochs, 0 or more."""


class Constant:
    """The full rate throughout."""

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        return 1.0


class Step:
    """The rate times `gamma` every `step_size` epochs.

    Raises:
        ValueError: if a number is not positive.
    """

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1 or gamma <= 0:
            raise ValueError(f"scheduler.step_size={step_size} must be 1 or more, scheduler.gamma={gamma} positive.")
        self.step_size = step_size
        self.gamma = gamma

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        return math.pow(self.gamma, epoch // self.step_size)


class MultiStep:
    """The rate times `gamma` at each milestone, an epoch.

    Raises:
        ValueError: if the milestones do not ascend, or `gamma` is not positive.
    """

    def __init__(self, milestones: Sequence[int], gamma: float = 0.1) -> None:
        if sorted(set(milestones)) != list(milestones) or gamma <= 0:
            raise ValueError(
                f"scheduler.milestones={list(milestones)} must ascend, scheduler.gamma={gamma} be positive."
            )
        self.milestones = list(milestones)
        self.gamma = gamma

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        return math.pow(self.gamma, sum(epoch >= milestone for milestone in self.milestones))


class Cosine:
    """A part of the time at the full rate, then half a cosine down to the share `final` at `max_epochs`.

    Source: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017; with a flat part as in
    He et al., "FastReID: A Pytorch Toolbox for General Instance Re-identification", ACM Multimedia 2023.

    Args:
        max_epochs: when the rate reaches its end.
        flat: share of that time in which the full rate is kept, below 1.
        final: share of the full rate at the end.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, max_epochs: float, flat: float = 0.0, final: float = 0.0) -> None:
        if max_epochs <= 0 or not 0 <= flat < 1 or not 0 <= final <= 1:
            raise ValueError(
                f"scheduler.flat={flat} must be 0 or more and below 1, scheduler.final={final} lie in 0 to 1, and some "
                f"epochs be left, not {max_epochs}."
            )
        self.max_epochs = max_epochs
        self.flat_epochs = flat * max_epochs
        self.final = final

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        share = min(max(epoch - self.flat_epochs, 0) / (self.max_epochs - self.flat_epochs), 1)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2


class OneCycle:
    """Up to the full rate along half a cosine, then down along another.

    Source: Smith, Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018;
    the momentum stays as it is.

    Args:
        max_epochs: when the cycle ends.
        rise: share of the time in which the rate rises, above 0 and below 1.
        first: share of the full rate at the start.
        final: likewise at the end.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, max_epochs: float, rise: float = 0.3, first: float = 0.04, final: float = 4e-6) -> None:
        if max_epochs <= 0 or not 0 < rise < 1 or not 0 <= first <= 1 or not 0 <= final <= 1:
            raise ValueError(
                f"scheduler.rise={rise} must lie between 0 and 1, scheduler.first={first} and scheduler.final={final} in "
                f"0 to 1, and some epochs must be left, not {max_epochs}."
            )
        self.top = rise * max_epochs
        self.up = Cosine(self.top, final=first)
        self.down = Cosine(max_epochs - self.top, final=final)

    def __call__(self, epoch: float) -> float:
        """See `Schedule`."""
        return self.up(self.top - epoch) if epoch < self.top else self.down(epoch - self.top)


class WarmUp:
    """A linear rise from the share `factor` over the first epochs, and then a schedule that starts there.

    Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017.

    Args:
        schedule: what follows.
        epochs: of the rise; 0 for none.
        factor: share of the full rate at the start.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(self, schedule: Schedule, epochs: float, factor: float) -> None:
        if epochs < 0 or not 0 < factor <= 1:
            raise ValueError(
                f"scheduler.warmup_epochs={epochs} must be 0 or more, scheduler.warmup_factor={factor} above 0 and at "
                "most 1."
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
    """Build what sets the rates of an optimiser.

    Args:
        optimizer: whose rates it sets.
        spec: of a `Schedule`, and three keys of ours: over `warmup_epochs` the rate first rises linearly from the share
            `warmup_factor`, and the schedule proper starts after that; `max_epochs`, if it has one, counts both.
            `interval` is how often the rate changes: once an `epoch` or at every `step`.
        steps_per_epoch: of the optimiser; asked with `interval: step`, at every step, as it need not be known yet.

    Raises:
        ValueError: if a number is out of range or the spec does not fit.
    """
    arguments = dict(spec)
    epochs, factor = arguments.pop("warmup_epochs", 0), arguments.pop("warmup_factor", 0.01)
    interval = arguments.pop("interval", "epoch")
    if interval not in INTERVALS:
        raise ValueError(f"scheduler.interval={interval!r} must be one of {', '.join(INTERVALS)}.")
    if "max_epochs" in arguments:
        if epochs >= arguments["max_epochs"]:
            raise ValueError(
                f"scheduler.warmup_epochs={epochs} must be below trainer.max_epochs={arguments['max_epochs']}."
            )
        arguments["max_epochs"] -= epochs
    schedule = WarmUp(build(arguments), epochs, factor)
    by_step = interval == "step"
    # A function, whose state is empty: a checkpoint of the schedule's own objects could not be read safely.
    return LambdaLR(optimizer, lambda count: schedule(count / steps_per_epoch() if by_step else count))

"""Optimisers and learning-rate schedules from specs."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from reidlit.spec import build


def build_optimizer(model: nn.Module, spec: Mapping[str, Any]) -> Optimizer:
    """Build the optimiser over all parameters of a model.

    Args:
        model: whose parameters are trained.
        spec: of a `torch.optim` class, and two keys of ours. `new_layers` names the parts that train at the full `lr`; all
            others then train at `lr * base_lr_mult`, since they start from trained weights. Without it all train alike.

    Raises:
        ValueError: if a name is no part of the model, or the spec does not fit.
    """
    arguments = dict(spec)
    new_layers, base_lr_mult = arguments.pop("new_layers", ()), arguments.pop("base_lr_mult", 0.1)
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if new_layers:
        new = {id(p) for layer in named_modules(model, new_layers, "optimizer.new_layers") for p in layer.parameters()}
        groups = [
            {"params": [p for p in model.parameters() if id(p) not in new], "lr": arguments["lr"] * base_lr_mult},
            {"params": [p for p in model.parameters() if id(p) in new], "lr": arguments["lr"]},
        ]
    built: Optimizer = build(arguments, params=groups)
    return built


def build_scheduler(optimizer: Optimizer, spec: Mapping[str, Any]) -> LRScheduler:
    """Build a schedule that is stepped once an epoch.

    Args:
        optimizer: whose rates it sets.
        spec: of a schedule, and two keys of ours: over `warmup_epochs` the rate first rises linearly from the share
            `warmup_factor`, and the schedule proper starts after that.

    Raises:
        ValueError: if a number is out of range or the spec does not fit.
    """
    arguments = dict(spec)
    epochs, factor = arguments.pop("warmup_epochs", 0), arguments.pop("warmup_factor", 0.01)
    if epochs < 0 or not 0 < factor <= 1:
        raise ValueError(
            f"scheduler.warmup_epochs={epochs} must be 0 or more, scheduler.warmup_factor={factor} above 0 and at most 1."
        )
    proper: LRScheduler = build(arguments, optimizer=optimizer)
    if epochs == 0:
        return proper
    rise = LinearLR(optimizer, start_factor=factor, total_iters=epochs)
    return SequentialLR(optimizer, [rise, proper], milestones=[epochs])


def named_modules(model: nn.Module, names: Sequence[str], argument: str) -> list[nn.Module]:
    """The modules of a model that dotted names name, e.g. `classifier` or `backbone.conv5`.

    Raises:
        ValueError: if a name names none.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in names if name not in modules or not name]:
        known = ", ".join(name for name, _ in model.named_children())
        raise ValueError(
            f"{argument}={list(names)}: the model has no part {unknown}. Its parts are {known}, and theirs."
        )
    return [modules[name] for name in names]


def cosine(optimizer: Optimizer, max_epochs: int, after: int = 0) -> CosineAnnealingLR:
    """Half a cosine from the full rate to zero, over the epochs that a warm-up of `after` epochs leaves.

    Source: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.

    Raises:
        ValueError: if the warm-up leaves none.
    """
    if after >= max_epochs:
        raise ValueError(f"scheduler.warmup_epochs={after} must be below trainer.max_epochs={max_epochs}.")
    return CosineAnnealingLR(optimizer, T_max=max_epochs - after)

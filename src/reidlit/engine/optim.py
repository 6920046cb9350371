"""Optimisers and learning-rate schedules from specs."""

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from reidlit.spec import build


def build_optimizer(model: nn.Module, spec: Mapping[str, Any]) -> Optimizer:
    """Build the optimiser over all parameters of a model.

    Args:
        model: whose parameters are trained.
        spec: of a `torch.optim` class, and three keys of ours. `new_layers` names the parts that train at the full `lr`;
            all others then train at `lr * base_lr_mult`, since they start from trained weights. `layer_decay` lets each
            layer of a timm network train at that share of the rate of the layer above it, and what lies above the network
            at the full `lr`. Without them all train alike.

    Raises:
        ValueError: if a name is no part of the model, `layer_decay` is out of range, goes with `new_layers` or the
            backbone has no order of layers, or the spec does not fit.
    """
    arguments = dict(spec)
    new_layers, base_lr_mult = arguments.pop("new_layers", ()), arguments.pop("base_lr_mult", 0.1)
    layer_decay = arguments.pop("layer_decay", None)
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if layer_decay not in (None, 1):
        if new_layers:
            raise ValueError(
                f"optimizer.layer_decay={layer_decay} and optimizer.new_layers={list(new_layers)} both say at which rate "
                "the backbone trains; set one of them, and layer_decay=null or new_layers=[]."
            )
        groups = _decayed(model, layer_decay, arguments["lr"])
    elif new_layers:
        new = {id(p) for layer in named_modules(model, new_layers, "optimizer.new_layers") for p in layer.parameters()}
        groups = [
            {"params": [p for p in model.parameters() if id(p) not in new], "lr": arguments["lr"] * base_lr_mult},
            {"params": [p for p in model.parameters() if id(p) in new], "lr": arguments["lr"]},
        ]
    built: Optimizer = build(arguments, params=groups)
    return built


def _decayed(model: nn.Module, layer_decay: float, lr: float) -> list[dict[str, Any]]:
    """A group for each layer of the network of timm in a model, and one for the rest.

    Source: Clark, Luong, Le, Manning, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
    ICLR 2020.

    Raises:
        ValueError: if the share is out of range, or the backbone has no order of layers.
    """
    if not 0 < layer_decay < 1:
        raise ValueError(f"optimizer.layer_decay={layer_decay} must be above 0 and at most 1, or null.")
    network: Any = getattr(getattr(model, "backbone", None), "network", None)
    if not hasattr(network, "group_matcher"):
        raise ValueError(
            f"optimizer.layer_decay={layer_decay}: the backbone tells no order of its layers, which only networks of timm "
            "do. Set it to null, or name the parts that train at the full rate with new_layers."
        )
    named = dict(network.named_parameters())
    layers = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    top = max(layers.values()) + 1  # what lies above the network counts as one layer more
    groups = [
        {"params": [named[name] for name, at in layers.items() if at == layer], "lr": lr * layer_decay ** (top - layer)}
        for layer in range(top)
    ]
    inside = {id(p) for p in named.values()}
    return [*groups, {"params": [p for p in model.parameters() if id(p) not in inside], "lr": lr}]


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

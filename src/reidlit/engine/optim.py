"""Optimisers from specs."""

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models import group_parameters
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from reidlit.spec import build


def build_optimizer(model: nn.Module, spec: Mapping[str, Any], loss: nn.Module | None = None) -> Optimizer:
    """Build the optimiser over all parameters of a model and of its losses.

    Args:
        model: whose parameters are trained.
        spec: of a `torch.optim` class, and four keys of ours. `new_layers` names the parts that train at the full `lr`;
            all others then train at `lr * base_lr_mult`, since they start from trained weights. `layer_decay` lets each
            layer of a timm network train at that share of the rate of the layer above it, and what lies above the network
            at the full `lr`. Without them all train alike. `decay_norms: false` takes weight decay from biases and from the
            weights of norms, which are the parameters with one dimension.
        loss: whose parameters, such as proxies, if it has any, train at the full `lr` without weight decay.

    Raises:
        ValueError: if a name is no part of the model, `layer_decay` is out of range, goes with `new_layers` or the
            backbone has no order of layers, or the spec does not fit.
    """
    arguments = dict(spec)
    new_layers, base_lr_mult = arguments.pop("new_layers", ()), arguments.pop("base_lr_mult", 0.1)
    layer_decay, decay_norms = arguments.pop("layer_decay", None), arguments.pop("decay_norms", True)
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
    if not decay_norms:
        groups = [part for group in groups for part in _apart(group)]
    if loss is not None and (proxies := list(loss.parameters())):
        groups.append({"params": proxies, "weight_decay": 0.0})
    built: Optimizer = build(arguments, params=groups)
    return built


def _apart(group: dict[str, Any]) -> list[dict[str, Any]]:
    """A group as two: what is decayed, and biases and norms, which are not.

    Source: He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", CVPR 2019.
    """
    decayed = [parameter for parameter in group["params"] if parameter.ndim > 1]
    others = [parameter for parameter in group["params"] if parameter.ndim <= 1]
    parts = [{**group, "params": decayed}, {**group, "params": others, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]


def timm_optimizer(
    params: Any,
    opt: str,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """An optimiser of timm by its name.

    Args:
        params: parameters, or groups of them.
        opt: e.g. `lamb`, `lion`, `adan`, `muon`; `timm.optim.list_optimizers()` lists them.
        lr: learning rate.
        weight_decay: of all groups that set none.
        momentum: of those that have one.
        options: whatever else the optimiser takes.

    Raises:
        ValueError: if timm has none of that name, or it does not take the options.
    """
    if opt not in (known := [str(name) for name in list_optimizers()]):
        raise ValueError(f"optimizer.opt={opt!r} is unknown to timm; it has {', '.join(known)}.")
    built: Optimizer = create_optimizer_v2(
        params, opt, lr=lr, weight_decay=weight_decay, momentum=momentum, **(options or {})
    )
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

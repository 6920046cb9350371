"""Optimizers and parameter groups, built from specs."""

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models import group_parameters
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from reidlit.spec import build


def build_optimizer(model: nn.Module, spec: Mapping[str, Any], loss: nn.Module | None = None) -> Optimizer:
    """Build the optimizer of a model and its losses.

    Args:
        model: Model to train.
        spec: Spec of a `torch.optim` class, with up to five additional keys:

            - `new_layers`: Dotted names of modules that train with the full `lr`. All others, which start from trained
              weights, train with `lr * base_lr_mult`.
            - `base_lr_mult`: Factor of the learning rate for `new_layers`, 0.1 by default.
            - `layer_decay`: Factor between the learning rates of consecutive layers of a timm network. Modules after
              the network train with the full `lr`. It cannot be combined with `new_layers`.
            - `decay_norms`: False to exclude parameters with one dimension, biases and norm weights, from weight decay.
        loss: Losses of the model. Their parameters, such as proxies, train with the full `lr` and without weight decay.

    Raises:
        ValueError: If a module in `new_layers` does not exist, `layer_decay` is out of range, combined with
            `new_layers` or not supported by the backbone, or the optimizer does not accept the spec.
    """
    arguments = dict(spec)
    new_layers, base_lr_mult = arguments.pop("new_layers", ()), arguments.pop("base_lr_mult", 0.1)
    layer_decay, decay_norms = arguments.pop("layer_decay", None), arguments.pop("decay_norms", True)
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if layer_decay not in (None, 1):
        if new_layers:
            raise ValueError(
                f"optimizer.layer_decay={layer_decay} and optimizer.new_layers={list(new_layers)} cannot be combined, "
                "as both set the learning rate of the backbone. Set layer_decay=null or new_layers=[]."
            )
        groups = _layer_groups(model, layer_decay, arguments["lr"])
    elif new_layers:
        new = {id(p) for layer in named_modules(model, new_layers, "optimizer.new_layers") for p in layer.parameters()}
        groups = [
            {"params": [p for p in model.parameters() if id(p) not in new], "lr": arguments["lr"] * base_lr_mult},
            {"params": [p for p in model.parameters() if id(p) in new], "lr": arguments["lr"]},
        ]
    if not decay_norms:
        groups = [subgroup for group in groups for subgroup in _split_norms(group)]
    if loss is not None and (loss_parameters := list(loss.parameters())):
        groups.append({"params": loss_parameters, "weight_decay": 0.0})
    optimizer: Optimizer = build(arguments, params=groups)
    return optimizer


def _split_norms(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Split a group into parameters with weight decay, and biases and norm weights without.

    Source: He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", CVPR 2019.
    """
    weights = [parameter for parameter in group["params"] if parameter.ndim > 1]
    norms = [parameter for parameter in group["params"] if parameter.ndim <= 1]
    groups = [{**group, "params": weights}, {**group, "params": norms, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def timm_optimizer(
    params: Any,
    opt: str,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Build a timm optimizer by its name.

    Args:
        params: Parameters, or parameter groups.
        opt: Name of the optimizer, such as `lamb`, `lion`, `adan` or `muon`; see `timm.optim.list_optimizers()`.
        lr: Learning rate.
        weight_decay: Weight decay of all groups that do not set their own.
        momentum: Momentum, for optimizers that have one.
        options: Other keyword arguments of the optimizer.

    Raises:
        ValueError: If timm does not have the optimizer, or the optimizer does not accept the options.
    """
    if opt not in (supported := [str(name) for name in list_optimizers()]):
        raise ValueError(f"optimizer.opt={opt!r} is invalid: timm has {', '.join(supported)}.")
    optimizer: Optimizer = create_optimizer_v2(
        params, opt, lr=lr, weight_decay=weight_decay, momentum=momentum, **(options or {})
    )
    return optimizer


def _layer_groups(model: nn.Module, layer_decay: float, lr: float) -> list[dict[str, Any]]:
    """Return a parameter group for each layer of the timm network in a model, and one for all other parameters.

    Source: Clark, Luong, Le, Manning, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators",
    ICLR 2020.

    Raises:
        ValueError: If layer_decay is out of range, or the backbone is not a timm network.
    """
    if not 0 < layer_decay < 1:
        raise ValueError(f"optimizer.layer_decay={layer_decay} is invalid: must be above 0 and at most 1, or null.")
    network: Any = getattr(getattr(model, "backbone", None), "network", None)
    if not hasattr(network, "group_matcher"):
        raise ValueError(
            f"optimizer.layer_decay={layer_decay} is not supported by this backbone: only timm networks define the "
            "order of their layers. Set optimizer.layer_decay=null, or use optimizer.new_layers."
        )
    parameters = dict(network.named_parameters())
    layers = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    top = max(layers.values()) + 1  # modules after the network count as one more layer
    groups = [
        {
            "params": [parameters[name] for name, number in layers.items() if number == layer],
            "lr": lr * layer_decay ** (top - layer),
        }
        for layer in range(top)
    ]
    network_ids = {id(p) for p in parameters.values()}
    return [*groups, {"params": [p for p in model.parameters() if id(p) not in network_ids], "lr": lr}]


def named_modules(model: nn.Module, names: Sequence[str], argument: str) -> list[nn.Module]:
    """Return the modules of a model with the given dotted names.

    Args:
        model: Model that contains the modules.
        names: Dotted names, such as `classifier` or `backbone.conv5`.
        argument: Argument that the names come from, for the error message.

    Raises:
        ValueError: If the model does not have one of the modules.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in names if name not in modules or not name]:
        children = ", ".join(name for name, _ in model.named_children())
        raise ValueError(
            f"{argument}={list(names)} is invalid: the model has no modules {unknown}. Choose among {children} and "
            "their submodules."
        )
    return [modules[name] for name in names]

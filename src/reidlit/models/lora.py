"""Low-rank adaptation: a large network stays as it is, and small additions to its linear layers are trained.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ATTENTION = ("qkv", "q", "k", "v", "q_proj", "k_proj", "v_proj", "kv", "proj")


class LoRALinear(nn.Module):
    """A linear layer whose weight is fixed, plus a trained product of two thin matrices.

    Args:
        linear: the layer; its weight and bias are frozen.
        rank: the inner size of the product.
        alpha: the product is scaled by alpha / rank.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))  # so that it starts as the layer
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        addition = functional.linear(functional.linear(x, self.down), self.up)
        result: Tensor = self.linear(x) + self.scale * addition
        return result

    def merged(self) -> nn.Linear:
        """The layer with the addition in its weight: the same function, at the layer's own cost."""
        with torch.no_grad():
            self.linear.weight += self.scale * self.up @ self.down
        return self.linear


def add_lora(network: nn.Module, rank: int = 8, alpha: float | None = None, targets: Sequence[str] = ATTENTION) -> None:
    """Freeze a network and put `LoRALinear` in the place of some of its linear layers; norms go on training.

    Args:
        network: changed in place.
        rank: of the additions.
        alpha: their scale times the rank; the rank by default.
        targets: the last part of the names of the layers, e.g. `qkv`, `fc1`.

    Raises:
        ValueError: if the rank is not positive or no layer has such a name.
    """
    if rank < 1:
        raise ValueError(f"lora.rank={rank} must be 1 or more.")
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets
    ]
    if not names:
        raise ValueError(f"lora.targets={list(targets)}: no linear layer of the network has such a name.")
    network.requires_grad_(False)
    for module in network.modules():
        if "norm" in type(module).__name__.lower():
            module.requires_grad_(True)
    for name in names:
        parent, _, last = name.rpartition(".")
        linear = network.get_submodule(name)
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{name} is no linear layer")
        setattr(network.get_submodule(parent), last, LoRALinear(linear, rank, rank if alpha is None else alpha))


def merge_lora(module: nn.Module) -> None:
    """Put plain linear layers in the place of all `LoRALinear` below a module, as for export."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())

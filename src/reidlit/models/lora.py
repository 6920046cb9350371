"""Low-rank adaptation of frozen networks.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

ATTENTION = ("qkv", "q", "k", "v", "q_proj", "k_proj", "v_proj", "kv", "proj")


class LoRALinear(nn.Linear):
    """Linear layer with frozen weight and a trainable low-rank update.

    Weight and bias keep their names, so that weights of the original network can be loaded.

    Args:
        linear: Original layer; its weight and bias are reused and frozen.
        rank: Rank of the update.
        alpha: Scale of the update; the product is multiplied by `alpha / rank`.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.requires_grad_(False)
        self.down = nn.Parameter(self.weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(self.weight.new_zeros(linear.out_features, rank))  # zero, so the initial update is zero
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        update = functional.linear(functional.linear(x, self.down), self.up)
        return super().forward(x) + self.scale * update

    def merged(self) -> nn.Linear:
        """Return an equivalent linear layer with the update added to its weight."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        merged = self.weight.detach() + self.scale * self.up.detach() @ self.down.detach()
        linear.weight, linear.bias = nn.Parameter(merged, requires_grad=False), self.bias
        return linear


def add_lora(network: nn.Module, rank: int = 8, alpha: float | None = None, targets: Sequence[str] = ATTENTION) -> None:
    """Freeze a network in place and replace linear layers by `LoRALinear`. Norm layers stay trainable.

    Args:
        network: Network to modify.
        rank: Rank of the updates.
        alpha: Scale of the updates; see `LoRALinear`. Default: `rank`.
        targets: Last components of the names of the layers to replace, for example `qkv` or `fc1`.

    Raises:
        ValueError: If `rank` is not positive, no layer matches `targets`, or the network bypasses a matching layer.
    """
    if rank < 1:
        raise ValueError(f"lora.rank={rank} is invalid: must be at least 1.")
    linears = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets
    }
    if not linears:
        raise ValueError(f"lora.targets={list(targets)} does not match any linear layer of the network.")
    if bypassed := [name for name in linears if _bypassed(network, name)]:
        raise ValueError(
            f"lora.targets={list(targets)} is invalid: the network reads the weight of {bypassed[0]} without calling "
            f"the layer, so LoRA would have no effect. Remove {bypassed[0].rpartition('.')[2]!r}, for example use "
            "lora.targets=[proj]."
        )
    network.requires_grad_(False)
    for module in network.modules():
        if "norm" in type(module).__name__.lower():
            module.requires_grad_(True)
    for name, linear in linears.items():
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, LoRALinear(linear, rank, rank if alpha is None else alpha))


def _bypassed(network: nn.Module, name: str) -> bool:
    """Return True if the network reads the weight of a layer without calling it.

    This applies to attention layers of PyTorch, and of BEiT, EVA and Swin v2 in timm.
    """
    parent, _, last = name.rpartition(".")
    attention = network.get_submodule(parent)
    if isinstance(attention, nn.MultiheadAttention):
        return True
    return last == "qkv" and getattr(attention, "q_bias", None) is not None


def merge_lora(module: nn.Module) -> None:
    """Replace every `LoRALinear` in a module by an equivalent linear layer, for example before export."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())

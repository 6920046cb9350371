"""Low-rank adaptation: a large network stays as it is, and small additions to its linear layers are trained.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

ATTENTION = ("qkv", "q", "k", "v", "q_proj", "k_proj", "v_proj", "kv", "proj")


class LoRALinear(nn.Linear):
    """A linear layer whose weight is fixed, plus a trained product of two thin matrices.

    Weight and bias keep their names, so that files of the plain network fit.

    Args:
        linear: the layer; its weight and bias are taken over and frozen.
        rank: the inner size of the product.
        alpha: the product is scaled by alpha / rank.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.requires_grad_(False)
        self.down = nn.Parameter(self.weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(self.weight.new_zeros(linear.out_features, rank))  # so that it starts as the layer
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        addition = functional.linear(functional.linear(x, self.down), self.up)
        return super().forward(x) + self.scale * addition

    def merged(self) -> nn.Linear:
        """A plain layer with the addition in its weight: the same function, at a plain layer's cost."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        merged = self.weight.detach() + self.scale * self.up.detach() @ self.down.detach()
        linear.weight, linear.bias = nn.Parameter(merged, requires_grad=False), self.bias
        return linear


def add_lora(network: nn.Module, rank: int = 8, alpha: float | None = None, targets: Sequence[str] = ATTENTION) -> None:
    """Freeze a network and put `LoRALinear` in the place of some of its linear layers; norms go on training.

    Args:
        network: changed in place.
        rank: of the additions.
        alpha: their scale times the rank; the rank by default.
        targets: the last part of the names of the layers, e.g. `qkv`, `fc1`.

    Raises:
        ValueError: if the rank is not positive, no layer has such a name, or the network never calls one that has.
    """
    if rank < 1:
        raise ValueError(f"lora.rank={rank} must be 1 or more.")
    linears = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets
    }
    if not linears:
        raise ValueError(f"lora.targets={list(targets)}: no linear layer of the network has such a name.")
    if bypassed := [name for name in linears if _bypassed(network, name)]:
        raise ValueError(
            f"lora.targets={list(targets)}: the network reads the weight of {bypassed[0]} without calling the layer, so an "
            f"addition would do nothing. Leave {bypassed[0].rpartition('.')[2]!r} out, e.g. lora.targets=[proj]."
        )
    network.requires_grad_(False)
    for module in network.modules():
        if "norm" in type(module).__name__.lower():
            module.requires_grad_(True)
    for name, linear in linears.items():
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, LoRALinear(linear, rank, rank if alpha is None else alpha))


def _bypassed(network: nn.Module, name: str) -> bool:
    """Whether a layer is one that PyTorch's attention, or timm's BEiT, EVA and Swin v2, only take the weight of."""
    parent, _, last = name.rpartition(".")
    attention = network.get_submodule(parent)
    if isinstance(attention, nn.MultiheadAttention):
        return True
    return last == "qkv" and getattr(attention, "q_bias", None) is not None


def merge_lora(module: nn.Module) -> None:
    """Put plain linear layers in the place of all `LoRALinear` below a module, as for export."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())

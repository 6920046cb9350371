"""Network for the architecture search of OSNet-AIN.

Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person Re-Identification",
TPAMI 2021, with the Gumbel-softmax of Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017.
"""

from typing import Any

import torch
from torch import Tensor, nn

from reidlit.models.backbones.osnet import OSBlock, OSNet
from reidlit.models.backbones.osnet_ain import BLOCKS, CANDIDATES, normalize_block
from reidlit.models.backbones.osnet_ibn import use_instance_norm
from reidlit.models.layers import initialize


class SearchBlock(nn.Module):
    """All candidates for a block of OSNet-AIN in parallel, each with separate weights.

    The output is the weighted sum of the candidates, with weights softmax((l + g) / t), learned `logits` l and
    `temperature` t. In training, g is standard Gumbel noise, so that each candidate has the largest weight with
    probability softmax(l); the lower t, the closer the largest weight is to 1. In evaluation g is zero, so that the
    output is deterministic.

    The paper learns exp(l), initialized with ones and passed through a ReLU. There, a weight that reaches zero receives
    no gradient and stays zero, and the output is NaN if all four are zero. Learning l directly has the same initial
    state and avoids this.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.candidates = nn.ModuleDict({name: OSBlock(in_channels, out_channels) for name in CANDIDATES})
        for name, block in self.candidates.items():
            normalize_block(block, name)
        self.logits = nn.Parameter(torch.zeros(len(CANDIDATES)))
        self.temperature: Tensor
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        pairs = zip(self.weights(), self.candidates.values(), strict=True)
        return sum((weight * block(x) for weight, block in pairs), start=x.new_zeros(()))

    def weights(self) -> Tensor:
        """Return the weights of the candidates (4,); random in training."""
        logits = self.logits.float()
        if self.training:
            logits = logits - torch.empty_like(logits).exponential_().log()  # add Gumbel noise
        return (logits / self.temperature).softmax(0)


class OSNetAINSearch(OSNet):
    """OSNet-AIN with all candidates in each of its six blocks, for training with `engine=architecture_search`.

    Norms have no learned scale and shift, because these could cancel the weight of a candidate. With other engines the
    temperature stays 1.

    Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person
    Re-Identification", TPAMI 2021.

    Args:
        width: Channel multiplier.

    Raises:
        ValueError: If `width` is not positive.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__(width)
        self.width = width
        use_instance_norm(self, ["conv1.bn"])
        for name in BLOCKS:
            block: Any = self.get_submodule(name)
            self.set_submodule(name, SearchBlock(block.conv1.conv.in_channels, block.conv3.conv.out_channels))
        initialize(self)
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d | nn.InstanceNorm2d):
                norm.affine = False
                norm.register_parameter("weight", None)
                norm.register_parameter("bias", None)

    @property
    def positions(self) -> dict[str, SearchBlock]:
        """Search blocks by name, in the order of a layout."""
        return {name: block for name, block in self.named_modules() if isinstance(block, SearchBlock)}

    @property
    def probabilities(self) -> Tensor:
        """Probability of each candidate at each position (6, 4)."""
        return torch.stack([block.logits.detach().float().softmax(0) for block in self.positions.values()])

    @property
    def entropy(self) -> Tensor:
        """Entropy of the candidates at each position (6,), in nats: log 4 (1.386) before the search, 0 if decided."""
        entropy: Tensor = torch.special.entr(self.probabilities).sum(1)
        return entropy

    @property
    def layout(self) -> list[str]:
        """Most probable candidate at each position, for the argument `layout` of `OSNetAIN`."""
        return [CANDIDATES[best] for best in self.probabilities.argmax(1).tolist()]

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature at all positions."""
        for block in self.positions.values():
            block.temperature.fill_(temperature)

"""The network in which the layout of OSNet-AIN is searched for.

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
    """All candidates for a block of OSNet-AIN, side by side, each with weights of its own.

    The output is their weighted sum. The weights are softmax((l + g) / t) with `logits` l, which are learnt, and a
    `temperature` t. In training g is drawn anew at each step from the standard Gumbel distribution, so that the largest
    weight falls on a candidate with its probability, softmax(l), and the smaller t, the more it outweighs the others. In
    evaluation g is zero: the sum that was trained, without its noise, and the same for the same images.

    The paper learns exp(l), from ones and through a ReLU. There a weight that has become zero stays zero, since no gradient
    reaches it any more, and when all four have, the output is NaN; a logarithm that is learnt itself starts at the same
    point and knows no such end.
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
        """(4,) of the candidates in the sum; in training, drawn."""
        logits = self.logits.float()
        if self.training:
            logits = logits - torch.empty_like(logits).exponential_().log()  # which is Gumbel noise
        return (logits / self.temperature).softmax(0)


class OSNetAINSearch(OSNet):
    """OSNet-AIN with all candidates in each of its six blocks, to be trained with `engine=architecture_search`.

    Norms have no scale and shift of their own, as one could undo a candidate's weight. By itself, without that procedure,
    it trains at temperature 1.

    Source: Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for Person
    Re-Identification", TPAMI 2021.

    Args:
        width: channels relative to the paper's x1.0.

    Raises:
        ValueError: if the width is not positive.
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
        """The blocks by name, in the order of a layout."""
        return {name: block for name, block in self.named_modules() if isinstance(block, SearchBlock)}

    @property
    def probabilities(self) -> Tensor:
        """(6, 4) of each candidate to be the chosen one, at each position."""
        return torch.stack([block.logits.detach().float().softmax(0) for block in self.positions.values()])

    @property
    def entropy(self) -> Tensor:
        """(6,) of the choice at each position, in nats: log 4, which is 1.386, before the search, 0 when nothing is open."""
        entropy: Tensor = torch.special.entr(self.probabilities).sum(1)
        return entropy

    @property
    def layout(self) -> list[str]:
        """The most probable candidate at each position, as `OSNetAIN` takes it."""
        return [CANDIDATES[best] for best in self.probabilities.argmax(1).tolist()]

    def set_temperature(self, temperature: float) -> None:
        """At all positions."""
        for block in self.positions.values():
            block.temperature.fill_(temperature)

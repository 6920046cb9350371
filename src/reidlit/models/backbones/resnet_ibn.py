"""ResNet-50 with instance norm beside batch norm (IBN-Net), on timm's ResNet.

Source: Pan, Luo, Shi, Tang, "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.
Weights published with the paper load unchanged, as do those of Torchreid and fast-reid.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from reidlit.models.backbones.timm_network import TimmNetwork

STAGES_A = ("layer1", "layer2", "layer3")  # the last stage tells identities apart, so it keeps all of the contrast
STAGES_B = ("layer1", "layer2")


class IBN(nn.Module):
    """Instance norm of the first half of the channels, batch norm of the others.

    Source: Pan, Luo, Shi, Tang, "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.

    Args:
        channels: how many in all.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, normalised."""
        # The sums over a contiguous half are those of the published models, to the last bit.
        return torch.cat((self.IN(x[:, : self.split]), self.BN(x[:, self.split :].contiguous())), dim=1)


class ResNetIBN(TimmNetwork):
    """ResNet-50 that is less sensitive to colour, light and style, without its classifier.

    `num_features` is the number of channels of its map, 2048.

    Source: Pan, Luo, Shi, Tang, "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.

    Args:
        variant: "a": instance norm of half the channels after the first convolution of each block of the first three
            stages. "b": instance norm instead of batch norm after the stem, and of the sum that the first and the
            second stage end with.
        last_stride: 1 to let the last stage keep the resolution of the one before. None, or 2, to leave it.

    Raises:
        ValueError: if there is no such variant or last stride.
    """

    renames: ClassVar = {
        "": "backbone.network.",
        "layer1.2.IN.": "backbone.network.layer1.2.act3.0.",
        "layer2.3.IN.": "backbone.network.layer2.3.act3.0.",
    }

    def __init__(self, variant: str, last_stride: int | None = None) -> None:
        if variant not in ("a", "b"):
            raise ValueError(f"backbone.variant={variant!r} must be 'a' or 'b'.")
        super().__init__("resnet50", last_stride=last_stride)
        if variant == "a":
            for block in (block for stage in STAGES_A for block in self.network.get_submodule(stage)):
                block.bn1 = IBN(block.bn1.num_features)
        else:
            self.network.bn1 = nn.InstanceNorm2d(self.network.bn1.num_features, affine=True)
            for block in (self.network.get_submodule(stage)[-1] for stage in STAGES_B):
                block.act3 = nn.Sequential(nn.InstanceNorm2d(block.bn3.num_features, affine=True), block.act3)

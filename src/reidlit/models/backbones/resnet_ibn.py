"""IBN-Net: ResNet-50 with instance norm and batch norm, based on timm's ResNet.

Source: Pan, Luo, Shi, Tang, "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.
Weights of the paper, Torchreid and fast-reid load unchanged.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from reidlit.models.backbones.timm_network import TimmNetwork

STAGES_A = ("layer1", "layer2", "layer3")  # not the last stage, because contrast helps to discriminate identities
STAGES_B = ("layer1", "layer2")


class IBN(nn.Module):
    """Instance norm of the first half of the channels and batch norm of the second half.

    Source: Pan, Luo, Shi, Tang, "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.

    Args:
        channels: Total number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        # With a contiguous half, sums are bit-identical to those of the published models.
        return torch.cat((self.IN(x[:, : self.split]), self.BN(x[:, self.split :].contiguous())), dim=1)


class ResNetIBN(TimmNetwork):
    """ResNet-50 with instance norms, which make it less sensitive to color, illumination and style.

    `num_features` is 2048.

    Source: Pan, Luo, Shi, Tang, "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.

    Args:
        variant: "a": instance norm of half the channels after the first convolution of each block in the first three
            stages. "b": instance norm instead of batch norm in the stem, and on the output sum of the first and second
            stage.
        last_stride: 1 to keep the resolution in the last stage; None or 2 to halve it.

    Raises:
        ValueError: If `variant` or `last_stride` is invalid.
    """

    renames: ClassVar = {
        "": "backbone.network.",
        "layer1.2.IN.": "backbone.network.layer1.2.act3.0.",
        "layer2.3.IN.": "backbone.network.layer2.3.act3.0.",
    }

    def __init__(self, variant: str, last_stride: int | None = None) -> None:
        if variant not in ("a", "b"):
            raise ValueError(f"backbone.variant={variant!r} is invalid: must be 'a' or 'b'.")
        super().__init__("resnet50", last_stride=last_stride)
        if variant == "a":
            for block in (block for stage in STAGES_A for block in self.network.get_submodule(stage)):
                block.bn1 = IBN(block.bn1.num_features)
        else:
            self.network.bn1 = nn.InstanceNorm2d(self.network.bn1.num_features, affine=True)
            for block in (self.network.get_submodule(stage)[-1] for stage in STAGES_B):
                block.act3 = nn.Sequential(nn.InstanceNorm2d(block.bn3.num_features, affine=True), block.act3)

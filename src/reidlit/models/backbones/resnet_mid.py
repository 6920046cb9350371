"""ResNet-50 with mid-level features, based on timm's ResNet."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from reidlit.models.backbones.timm_network import TimmNetwork
from reidlit.models.layers import initialize

BEFORE_LAST_STAGE = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3")


class ResNetMid(TimmNetwork):
    """ResNet-50 that concatenates the output of its last block with a fusion of the two blocks before, all averaged.

    `num_features` is 2048 + `dim`.

    Source: Yu, Chang, Song, Xiang, Hospedales, "The Devil is in the Middle: Exploiting Mid-level Representations for
    Cross-Domain Instance Matching", arXiv 2017.

    Args:
        pretrained: Whether to load the ImageNet weights of ResNet-50. The fusion has no pretrained weights.
        last_stride: 1 to keep the resolution in the last stage; None or 2 to halve it.
        dim: Size of the fused vector.

    Raises:
        ValueError: If the weights cannot be downloaded, or `last_stride` is invalid.
    """

    renames: ClassVar = {"": "backbone.network.", "fc_fusion.": "backbone.fc_fusion."}

    def __init__(self, pretrained: bool = False, last_stride: int | None = None, dim: int = 1024) -> None:
        super().__init__("resnet50.tv_in1k", pretrained, last_stride=last_stride)
        self.fc_fusion = nn.Sequential(nn.Linear(2 * self.num_features, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self.num_features += dim
        initialize(self.fc_fusion)

    def forward(self, image: Tensor) -> Tensor:
        """Return vectors (B, dim + 2048) of normalized images (B, 3, H, W)."""
        x = image
        for name in BEFORE_LAST_STAGE:
            x = self.network.get_submodule(name)(x)
        averages = []
        for block in self.network.layer4:
            x = block(x)
            averages.append(x.mean((2, 3)))
        return torch.cat((self.fc_fusion(torch.cat(averages[:-1], dim=1)), averages[-1]), dim=1)

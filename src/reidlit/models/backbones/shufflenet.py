"""ShuffleNet: grouped 1 x 1 convolutions with channel shuffle.

Source: Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
CVPR 2018. Module names match the published weights, so that these load unchanged.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import conv_norm

STEM = 24
STAGES = ((4, 1), (8, 2), (4, 4))  # Table 1 of the paper: number of units, and channels relative to the first stage
CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # channels of the first stage by number of groups


class ShuffleUnit(nn.Module):
    """Bottleneck of grouped 1 x 1 convolutions around a depthwise 3 x 3 convolution.

    With stride 2 the pooled input is concatenated to the result, otherwise the input is added to it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        mid = out_channels // 4
        residual_channels = out_channels - in_channels if stride == 2 else out_channels
        # The stem has too few channels for groups.
        first_groups = 1 if in_channels == STEM else groups
        self.groups = groups
        self.conv1 = nn.Conv2d(in_channels, mid, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, residual_channels, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(residual_channels)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        residual = functional.channel_shuffle(torch.relu_(self.bn1(self.conv1(x))), self.groups)
        residual = self.bn3(self.conv3(self.bn2(self.conv2(residual))))
        output = x + residual if self.shortcut is None else torch.cat((self.shortcut(x), residual), dim=1)
        return torch.relu_(output)


class ShuffleNet(nn.Module):
    """Convolutional part of ShuffleNet.

    `num_features` is 960 with three groups.

    Source: Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
    CVPR 2018.

    Args:
        groups: Number of groups of the 1 x 1 convolutions. Weights are published for 3.

    Raises:
        ValueError: If the paper does not define a network with this number of groups.
    """

    def __init__(self, groups: int = 3) -> None:
        super().__init__()
        if groups not in CHANNELS:
            raise ValueError(
                f"groups={groups} is invalid: must be one of {', '.join(map(str, CHANNELS))}, as in the paper."
            )
        self.conv1 = nn.Sequential(*conv_norm(3, STEM, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
        before, stages = STEM, []
        for units, factor in STAGES:
            channels = CHANNELS[groups] * factor
            others = (ShuffleUnit(channels, channels, 1, groups) for _ in range(units - 1))
            stages.append(nn.Sequential(ShuffleUnit(before, channels, 2, groups), *others))
            before = channels
        self.stage2, self.stage3, self.stage4 = stages
        self.num_features = before

    def forward(self, image: Tensor) -> Tensor:
        """Return maps (B, C, H / 32, W / 32) of normalized images (B, 3, H, W)."""
        result: Tensor = self.stage4(self.stage3(self.stage2(self.conv1(image))))
        return result

"""ShuffleNet: grouped 1 x 1 convolutions, and a shuffle that lets the groups meet.

Source: Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
CVPR 2018. Module names are those of the published weights, so that these load unchanged.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import conv_norm

STEM = 24
STAGES = ((4, 1), (8, 2), (4, 4))  # the paper's Table 1: units, and channels relative to the first stage
CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of the first stage, by the number of groups


class ShuffleUnit(nn.Module):
    """A bottleneck of grouped 1 x 1 convolutions around a 3 x 3 within each channel.

    With stride 2 the pooled input is joined to the result as further channels, otherwise it is added.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        mid = out_channels // 4
        made = out_channels - in_channels if stride == 2 else out_channels
        # The stem's few channels are not worth grouping.
        first_groups = 1 if in_channels == STEM else groups
        self.groups = groups
        self.conv1 = nn.Conv2d(in_channels, mid, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1, groups=mid, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, made, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        made = functional.channel_shuffle(torch.relu_(self.bn1(self.conv1(x))), self.groups)
        made = self.bn3(self.conv3(self.bn2(self.conv2(made))))
        joined = x + made if self.shortcut is None else torch.cat((self.shortcut(x), made), dim=1)
        return torch.relu_(joined)


class ShuffleNet(nn.Module):
    """ShuffleNet's convolutional part.

    `num_features` is the number of channels of its map: 960 with three groups.

    Source: Zhang, Zhou, Lin, Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
    CVPR 2018.

    Args:
        groups: of the 1 x 1 convolutions; published weights exist for 3.

    Raises:
        ValueError: if the paper has no network with so many groups.
    """

    def __init__(self, groups: int = 3) -> None:
        super().__init__()
        if groups not in CHANNELS:
            raise ValueError(f"groups={groups} must be one of {', '.join(map(str, CHANNELS))}, the paper's.")
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
        """(B, 3, H, W) normalised -> (B, C, H / 32, W / 32)."""
        result: Tensor = self.stage4(self.stage3(self.stage2(self.conv1(image))))
        return result

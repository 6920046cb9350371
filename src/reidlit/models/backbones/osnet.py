"""OSNet: omni-scale feature learning.

Source: Zhou, Yang, Cavallaro, Xiang, "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019.
Module names match the weights published with the paper, so that these load unchanged.
"""

import torch
from torch import Tensor, nn

from reidlit.models.layers import conv_norm, initialize

STAGES = (64, 256, 384, 512)  # channels of the stem and the three stages at width 1


class ConvNorm(nn.Module):
    """Convolution and batch norm, followed by ReLU unless `linear`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv, self.bn = conv_norm(in_channels, out_channels, kernel, stride)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        x = self.bn(self.conv(x))
        return x if self.linear else torch.relu_(x)


class LightConv3x3(nn.Module):
    """Lite 3 x 3 convolution: linear 1 x 1 convolution followed by a depthwise 3 x 3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        return torch.relu_(self.bn(self.conv2(self.conv1(x))))


class ChannelGate(nn.Module):
    """Unified aggregation gate: weight per channel, computed from the global average."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // reduction
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> weights (B, C, 1, 1)."""
        # Faster than `mean`, which divides the gradient at each position instead of once per channel.
        average = x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
        return torch.sigmoid(self.fc2(torch.relu_(self.fc1(average))))


class OSBlock(nn.Module):
    """Bottleneck with four streams of one to four lite 3 x 3 convolutions, fused by one shared gate.

    `norm` applies to the sum of residual and shortcut. It is the identity in OSNet, and an instance norm in OSNet-IBN
    and some layouts of OSNet-AIN. The residual itself ends with the norm of `conv3`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        mid = out_channels // 4
        self.conv1 = ConvNorm(in_channels, mid)
        self.conv2a = LightConv3x3(mid, mid)
        self.conv2b = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(4)))
        self.gate = ChannelGate(mid)
        self.conv3 = ConvNorm(mid, out_channels, linear=True)
        self.downsample = ConvNorm(in_channels, out_channels, linear=True) if in_channels != out_channels else None
        self.norm = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv1(x)
        y = self.conv2a(x)
        fused = y * self.gate(y)
        for stream in (self.conv2b, self.conv2c, self.conv2d):
            y = stream(x)
            fused += y * self.gate(y)
        return torch.relu_(self.norm(self.conv3(fused) + shortcut))


class OSNet(nn.Module):
    """Convolutional part of OSNet.

    `num_features` is 512 times the width.

    Args:
        width: Channel multiplier. Weights are published for 1.0, 0.75, 0.5 and 0.25.

    Raises:
        ValueError: If `width` is not positive.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if width <= 0:
            raise ValueError(
                f"width={width} is invalid: must be positive. Weights are published for 1.0, 0.75, 0.5 and 0.25."
            )
        stem, first, second, third = (int(channels * width) for channels in STAGES)
        self.conv1 = ConvNorm(3, stem, kernel=7, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(stem, first, reduce=True)
        self.conv3 = _stage(first, second, reduce=True)
        self.conv4 = _stage(second, third, reduce=False)
        self.conv5 = ConvNorm(third, third)
        self.num_features = third
        initialize(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return maps (B, 512 * width, H / 16, W / 16) of normalized images (B, 3, H, W)."""
        x = self.maxpool(self.conv1(image))
        x = self.conv4(self.conv3(self.conv2(x)))
        result: Tensor = self.conv5(x)
        return result


def _stage(in_channels: int, out_channels: int, *, reduce: bool) -> nn.Sequential:
    """Return two blocks, followed by a 1 x 1 convolution and average pooling if `reduce` is True."""
    blocks: list[nn.Module] = [OSBlock(in_channels, out_channels), OSBlock(out_channels, out_channels)]
    if reduce:
        blocks.append(nn.Sequential(ConvNorm(out_channels, out_channels), nn.AvgPool2d(2)))
    return nn.Sequential(*blocks)

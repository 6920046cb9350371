"""HACNN: joint learning of soft and hard attention with a global and a local branch.

Source: Li, Zhu, Gong, "Harmonious Attention Network for Person Re-Identification", CVPR 2018.
Module names match Torchreid's weights, so that these load unchanged.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.models.layers import require_size

IMAGE_SIZE = (160, 64)
STEM = 32
STAGES = (128, 256, 384)  # channels per stage
REGION_SIZES = ((24, 28), (12, 14), (6, 7))  # input size of the local branch in each stage
CENTRES = (-0.75, -0.25, 0.25, 0.75)  # initial vertical centers of the regions, from -1 (top) to 1 (bottom)
SCALE = (1.0, 0.25)  # width and height of a region, relative to the map


class ConvNorm(nn.Module):
    """Same-padded convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        return torch.relu_(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Parallel streams with concatenated outputs."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H', W')."""
        return torch.cat([stream(x) for stream in self.children()], dim=1)


class InceptionA(Inception):
    """Inception block at constant resolution: four streams with a quarter of the channels each, one with pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.stream1 = nn.Sequential(ConvNorm(in_channels, width), ConvNorm(width, width, 3))
        self.stream2 = nn.Sequential(ConvNorm(in_channels, width), ConvNorm(width, width, 3))
        self.stream3 = nn.Sequential(ConvNorm(in_channels, width), ConvNorm(width, width, 3))
        self.stream4 = nn.Sequential(nn.AvgPool2d(3, 1, 1), ConvNorm(in_channels, width))


class InceptionB(Inception):
    """Inception block that halves the resolution: two convolutional streams and a pooling stream."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.stream1 = nn.Sequential(ConvNorm(in_channels, width), ConvNorm(width, width, 3, 2))
        self.stream2 = nn.Sequential(
            ConvNorm(in_channels, width), ConvNorm(width, width, 3), ConvNorm(width, width, 3, 2)
        )
        self.stream3 = nn.Sequential(nn.MaxPool2d(3, 2, 1), ConvNorm(in_channels, 2 * width))


class SpatialAttention(nn.Module):
    """Attention weight per position, computed from the mean over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(1, 1, 3, 2)
        self.conv2 = ConvNorm(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W)."""
        coarse = self.conv1(x.mean(1, keepdim=True))
        result: Tensor = self.conv2(functional.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=True))
        return result


class ChannelAttention(nn.Module):
    """Attention weight per channel, computed from the mean over positions (squeeze and excitation)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels // reduction)
        self.conv2 = ConvNorm(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        result: Tensor = self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))
        return result


class SoftAttention(nn.Module):
    """Attention weight per position and channel: product of spatial and channel attention, mixed across channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial_attn = SpatialAttention()
        self.channel_attn = ChannelAttention(channels)
        self.conv = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> weights of the same shape, in [0, 1]."""
        return torch.sigmoid(self.conv(self.spatial_attn(x) * self.channel_attn(x)))


class HardAttention(nn.Module):
    """Four regions of fixed size with learned positions, initialized as horizontal stripes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, 2 * len(CENTRES))
        self.scale: Tensor
        self.register_buffer("scale", torch.diag(torch.tensor(SCALE)), persistent=False)
        nn.init.zeros_(self.fc.weight)
        with torch.no_grad():
            self.fc.bias.copy_(torch.tensor([(0.0, centre) for centre in CENTRES]).flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> affine maps (B, 4, 2, 3) from each region to the image, in x and y."""
        shift = torch.tanh(self.fc(x.mean((2, 3)))).view(-1, len(CENTRES), 2, 1)
        return torch.cat((self.scale.expand(*shift.shape[:2], 2, 2), shift), dim=3)


class HarmoniousAttention(nn.Module):
    """Soft attention for the global branch and hard attention for the local branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.soft_attn = SoftAttention(channels)
        self.hard_attn = HardAttention(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> the weighted map, and the affine maps of the regions (B, 4, 2, 3)."""
        return x * self.soft_attn(x), self.hard_attn(x)


class HACNN(nn.Module):
    """Harmonious attention network for images of 160 x 64.

    It returns a global and a local vector of size `num_features`, 512.

    Source: Li, Zhu, Gong, "Harmonious Attention Network for Person Re-Identification", CVPR 2018.

    Args:
        image_size: Height and width in pixels.

    Raises:
        ValueError: If `image_size` is not 160 x 64.
    """

    renames: ClassVar = {"classifier_global.": "classifier.0.", "classifier_local.": "classifier.1."}

    def __init__(self, image_size: Sequence[int] = IMAGE_SIZE) -> None:
        super().__init__()
        require_size("HACNN", image_size, IMAGE_SIZE)
        first, second, third = STAGES
        self.conv = ConvNorm(3, STEM, 3, 2)
        self.inception1 = nn.Sequential(InceptionA(STEM, first), InceptionB(first, first))
        self.inception2 = nn.Sequential(InceptionA(first, second), InceptionB(second, second))
        self.inception3 = nn.Sequential(InceptionA(second, third), InceptionB(third, third))
        self.ha1 = HarmoniousAttention(first)
        self.ha2 = HarmoniousAttention(second)
        self.ha3 = HarmoniousAttention(third)
        self.local_conv1 = InceptionB(STEM, first)
        self.local_conv2 = InceptionB(first, second)
        self.local_conv3 = InceptionB(second, third)
        self.num_features = 512
        self.fc_global = _embedding(third, self.num_features)
        self.fc_local = _embedding(third * len(CENTRES), self.num_features)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the global and the local vector (B, 512) of normalized images (B, 3, 160, 64).

        Raises:
            ValueError: If the images have another size.
        """
        require_size("HACNN", image.shape[2:], IMAGE_SIZE)
        x = self.conv(image)
        local: list[Tensor] = []
        inceptions = (self.inception1, self.inception2, self.inception3)
        attentions = (self.ha1, self.ha2, self.ha3)
        convolutions = (self.local_conv1, self.local_conv2, self.local_conv3)
        for inception, attention, convolution, size in zip(
            inceptions, attentions, convolutions, REGION_SIZES, strict=True
        ):
            attended, regions = attention(inception(x))
            crops = _crop(x, regions, size)
            if local:
                crops = [crop + previous for crop, previous in zip(crops, local, strict=True)]
            # One call per region, so that batch norms normalize each region separately during training.
            local = [convolution(crop) for crop in crops]
            x = attended
        pooled = torch.cat([region.mean((2, 3)) for region in local], dim=1)
        return self.fc_global(x.mean((2, 3))), self.fc_local(pooled)


def _crop(x: Tensor, regions: Tensor, size: Sequence[int]) -> list[Tensor]:
    """Crop N regions, given as affine maps (B, N, 2, 3), from a map (B, C, H, W); returns N tensors (B, C, *size)."""
    crops = []
    for region in regions.unbind(1):
        # Sampling at the size of the map, then resizing, with different corner alignment: Torchreid does the same.
        grid = functional.affine_grid(region, list(x.shape), align_corners=False)
        sampled = functional.grid_sample(x, grid, align_corners=False)
        crops.append(functional.interpolate(sampled, size, mode="bilinear", align_corners=True))
    return crops


def _embedding(in_features: int, out_features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_features, out_features), nn.BatchNorm1d(out_features), nn.ReLU())

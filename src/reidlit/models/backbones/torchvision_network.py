"""Backbones for torchvision networks that timm does not have."""

from collections.abc import Callable
from typing import Any, ClassVar

import torchvision
from torch import Tensor, nn

from reidlit.models.pretrained import download_error


class TorchvisionNetwork(nn.Module):
    """Convolutional part of torchvision's SqueezeNet or ShuffleNet v2.

    `num_features` is the number of channels of its map.

    Source: Iandola et al., "SqueezeNet", arXiv 2016; Ma, Zhang, Zheng, Sun, "ShuffleNet V2", ECCV 2018.

    Args:
        name: Name in torchvision, for example `squeezenet1_1` or `shufflenet_v2_x1_0`.
        pretrained: Whether to load ImageNet weights.

    Raises:
        ValueError: If the name is invalid, or the weights cannot be downloaded.
    """

    renames: ClassVar = {"": "backbone.network."}

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        remove_head = next((function for family, function in FAMILIES.items() if name.startswith(family)), None)
        if remove_head is None or name not in torchvision.models.list_models():
            names = [other for other in torchvision.models.list_models() if other.startswith(tuple(FAMILIES))]
            raise ValueError(
                f"backbone.name={name!r} is invalid: must be one of {', '.join(names)}. Use model=timm for other networks."
            )
        try:
            network = torchvision.models.get_model(name, weights="IMAGENET1K_V1" if pretrained else None)
        except Exception as error:
            if not pretrained:
                raise
            raise download_error(name, error) from error
        self.network, self.num_features = remove_head(network)

    def forward(self, image: Tensor) -> Tensor:
        """Return maps (B, C, H', W') of normalized images (B, 3, H, W)."""
        x = image
        for layer in self.network.children():
            x = layer(x)
        return x


def _squeezenet(network: nn.Module) -> tuple[nn.Module, int]:
    return nn.ModuleDict({"features": network.get_submodule("features")}), 512


def _shufflenet_v2(network: Any) -> tuple[nn.Module, int]:
    width = int(network.fc.in_features)
    del network.fc
    return network, width


FAMILIES: dict[str, Callable[[Any], tuple[nn.Module, int]]] = {
    "squeezenet": _squeezenet,
    "shufflenet_v2": _shufflenet_v2,
}

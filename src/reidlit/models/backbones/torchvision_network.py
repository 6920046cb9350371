"""Networks of torchvision that timm does not have, as backbones."""

from collections.abc import Callable
from typing import Any, ClassVar

import torchvision
from torch import Tensor, nn

from reidlit.models.pretrained import not_fetched


class TorchvisionNetwork(nn.Module):
    """The convolutional part of torchvision's SqueezeNet or ShuffleNet v2.

    `num_features` is the number of channels of its map.

    Source: Iandola et al., "SqueezeNet", arXiv 2016; Ma, Zhang, Zheng, Sun, "ShuffleNet V2", ECCV 2018.

    Args:
        name: of torchvision, e.g. `squeezenet1_1`, `shufflenet_v2_x1_0`.
        pretrained: whether to load its ImageNet weights.

    Raises:
        ValueError: if the name is none of these, or the weights cannot be fetched.
    """

    renames: ClassVar = {"": "backbone.network."}

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        cut = next((cut for family, cut in FAMILIES.items() if name.startswith(family)), None)
        if cut is None or name not in torchvision.models.list_models():
            known = [known for known in torchvision.models.list_models() if known.startswith(tuple(FAMILIES))]
            raise ValueError(f"backbone.name={name!r} must be one of {', '.join(known)}; timm has the others.")
        try:
            network = torchvision.models.get_model(name, weights="IMAGENET1K_V1" if pretrained else None)
        except Exception as error:
            if not pretrained:
                raise
            raise not_fetched(name, error) from error
        self.network, self.num_features = cut(network)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, C, H', W')."""
        x = image
        for part in self.network.children():
            x = part(x)
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

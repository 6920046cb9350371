"""ResNet from timm, as re-ID uses it."""

import timm
from torch import nn


def resnet(name: str = "resnet50", last_stride: int = 2, pretrained: bool = False) -> nn.Module:
    """A timm ResNet without its pooling and classifier.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. A last stride of 1, which
    doubles the map's size: Sun et al., "Beyond Part Models", ECCV 2018. timm's `output_stride=16` would dilate.

    Args:
        name: a timm name, e.g. `resnet50`; `resnet50.tv_in1k` names the weights that Torchreid starts from.
        last_stride: stride of the last stage, 1 or 2.
        pretrained: whether to load the ImageNet weights of `name`.

    Returns:
        A network (B, 3, H, W) -> (B, num_features, H / 32, W / 32), or / 16 with a last stride of 1.

    Raises:
        ValueError: if the last stride is neither 1 nor 2, or pretrained weights cannot be fetched.
    """
    if last_stride not in (1, 2):
        raise ValueError(f"last_stride={last_stride} must be 1 or 2.")
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
    except Exception as error:
        if not pretrained:
            raise
        raise ValueError(
            f"pretrained=True: the ImageNet weights of {name!r} cannot be fetched ({error}). "
            "Connect to the network once, give weights=<file>, or set pretrained=False."
        ) from error
    if last_stride == 1:
        for layer in network.get_submodule("layer4.0").modules():
            if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
                layer.stride = (1, 1)
    return network

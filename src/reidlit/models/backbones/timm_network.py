"""Backbone for any timm network."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import timm
from torch import Tensor, nn

from reidlit.models.backbones._layer_edits import drop_unused, keep_last_resolution, watch
from reidlit.models.lora import add_lora
from reidlit.models.pretrained import download_error

TOKENS = ("auto", "class", "patches")


class TimmNetwork(nn.Module):
    """Feature extractor of a timm network, without classifier and layers that only the classifier uses.

    `num_features` is the number of channels of its map. With pretrained weights, it has their `mean` and `std`.

    Source: Wightman, "PyTorch Image Models", 2019. See there for the paper of each network.

    Args:
        name: Name in timm such as `resnet50`. `resnet50.tv_in1k` also selects the weights.
        pretrained: Whether to load pretrained weights.
        image_size: Height and width in pixels, for networks with a fixed input size. Position embeddings and windows
            are adapted to it.
        last_stride: 1 to keep the resolution in the last stage, without dilation (Sun et al., "Beyond Part Models",
            ECCV 2018). timm's `output_stride=16` would use dilation. None or 2 keeps the stride of the network.
        tokens: Output of a transformer: "class" for its class token, as a map with one position; "patches" for the map
            of its patches; "auto" for the class token if it has one.
        drop_path: Fraction of samples that skip a residual branch (stochastic depth), if the network supports it.
        grad_checkpointing: Whether to recompute activations in the backward pass to save memory.
        lora: Arguments of `reidlit.models.lora.add_lora`, to train only low-rank updates of a transformer.

    Raises:
        ValueError: If timm does not have the network, its weights cannot be downloaded, or it does not support an
            option.
    """

    renames: ClassVar = {"": "backbone.network."}

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        image_size: Sequence[int] = (256, 128),
        last_stride: int | None = None,
        tokens: str = "auto",
        drop_path: float = 0.0,
        grad_checkpointing: bool = False,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if tokens not in TOKENS:
            raise ValueError(f"backbone.tokens={tokens!r} is invalid: must be one of {', '.join(TOKENS)}.")
        if last_stride not in (None, 1, 2):
            raise ValueError(f"backbone.last_stride={last_stride} is invalid: must be 1, 2 or null.")
        self.network = create(name, pretrained, image_size, drop_path)
        self.num_features = int(self.network.num_features)
        self.num_prefix_tokens = int(getattr(self.network, "num_prefix_tokens", 0))
        self.tokens = tokens
        self.image_size = tuple(image_size)
        if pretrained:
            self.mean, self.std = (self.network.pretrained_cfg[key] for key in ("mean", "std"))
        output, called = watch(self.network, self.network.forward_features, image_size)
        drop_unused(self.network, called)
        if last_stride == 1:
            keep_last_resolution(self.network, called)
            self._check_runs(name)
        self.has_class_token = output.ndim == 3 and getattr(self.network, "cls_token", None) is not None
        if tokens == "class" and not self.has_class_token:
            raise ValueError(
                f"backbone.tokens='class' is not supported: {name} has no class token. Use 'patches' or 'auto'."
            )
        if grad_checkpointing:
            self.network.set_grad_checkpointing(True)
        if lora is not None:
            add_lora(self.network, **lora)

    def forward(self, image: Tensor) -> Tensor:
        """Return maps (B, C, H', W') of normalized images (B, 3, H, W); (B, C, 1, 1) for the class token."""
        x: Tensor = self.network.forward_features(image)
        if x.ndim == 3:
            return self._from_tokens(x)
        # Some transformers return channels-last maps.
        return x if x.shape[1] == self.num_features else x.permute(0, 3, 1, 2)

    def _check_runs(self, name: str) -> None:
        try:
            watch(self.network, self.network.forward_features, self.image_size)
        except RuntimeError as error:
            raise ValueError(
                f"backbone.last_stride=1 is not supported: {name} requires the original size of its last map ({error}). "
                "Set last_stride=null."
            ) from error

    def _from_tokens(self, x: Tensor) -> Tensor:
        """Return the class token, or the map of the patches, of tokens (B, N, C)."""
        if self.has_class_token and self.tokens != "patches":
            return x[:, 0, :, None, None]
        patches: Tensor = x[:, max(self.num_prefix_tokens, int(self.has_class_token)) :].transpose(1, 2)
        height, width = self.image_size
        rows = round((patches.shape[2] * height / width) ** 0.5)
        return patches.reshape(*patches.shape[:2], rows, -1)


def create(name: str, pretrained: bool, image_size: Sequence[int], drop_path: float = 0.0) -> Any:
    """Create a timm network without classifier for images of a size.

    Raises:
        ValueError: If timm does not have the network, or its weights cannot be downloaded.
    """
    if not timm.is_model(name):
        similar = timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:8]
        raise ValueError(
            f"backbone.name={name!r} does not exist in timm. Similar names: {', '.join(similar) or 'none'}."
        )
    arguments: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0, "img_size": tuple(image_size)}
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    try:
        try:
            return _without_head(timm.create_model(name, **arguments))
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            del arguments["img_size"]  # not an argument of networks that accept any size
            return _without_head(timm.create_model(name, **arguments))
    except TypeError as error:
        raise ValueError(
            f"backbone.drop_path={drop_path} is not supported: {name} has no residual branches to skip ({error})."
        ) from error
    except Exception as error:
        if not pretrained:
            raise
        raise download_error(name, error) from error


def _without_head(network: Any) -> Any:
    if hasattr(network, "attn_pool"):  # attention pooling serves only the classifier
        network.reset_classifier(0, "")
    return network

"""Any network of timm as a backbone."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import timm
from torch import Tensor, nn

from reidlit.models.backbones._layer_edits import drop_unused, keep_last_resolution, watch
from reidlit.models.lora import add_lora
from reidlit.models.pretrained import not_fetched

TOKENS = ("auto", "class", "patches")


class TimmNetwork(nn.Module):
    """A network of timm, without the classifier and whatever else only serves that.

    `num_features` is the number of channels of its map. With pretrained weights it has their `mean` and `std`.

    Source: Wightman, "PyTorch Image Models", 2019; each network's own paper is named there.

    Args:
        name: of timm, e.g. `resnet50`; `resnet50.tv_in1k` names the weights too.
        pretrained: whether to load its weights.
        image_size: height and width in pixels, for networks that are made for one size: position embeddings and
            windows are fitted to it.
        last_stride: 1 to let the last stage keep the resolution of the one before, without dilation (Sun et al., "Beyond
            Part Models", ECCV 2018); timm's `output_stride=16` would dilate. None, or 2, to leave it.
        tokens: what a transformer gives: "class", its class token, as a map of one position; "patches", the map of its
            patches; "auto", the class token if there is one.
        drop_path: share of examples that skip a residual branch (stochastic depth), where the network has that.
        grad_checkpointing: whether to compute activations again in the backward pass, which saves memory.
        lora: the arguments of `reidlit.models.lora.add_lora`, to train only low-rank additions to a transformer.

    Raises:
        ValueError: if timm has no such network, its weights cannot be fetched, or it cannot be changed as asked.
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
            raise ValueError(f"backbone.tokens={tokens!r} must be one of {', '.join(TOKENS)}.")
        if last_stride not in (None, 1, 2):
            raise ValueError(f"last_stride={last_stride} must be 1, 2 or null.")
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
            raise ValueError(f"backbone.tokens='class': {name} has no class token; choose 'patches' or 'auto'.")
        if grad_checkpointing:
            self.network.set_grad_checkpointing(True)
        if lora is not None:
            add_lora(self.network, **lora)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, C, H', W'); for the class token (B, C, 1, 1)."""
        x: Tensor = self.network.forward_features(image)
        if x.ndim == 3:
            return self._from_tokens(x)
        # Some transformers keep the channels last.
        return x if x.shape[1] == self.num_features else x.permute(0, 3, 1, 2)

    def _check_runs(self, name: str) -> None:
        try:
            watch(self.network, self.network.forward_features, self.image_size)
        except RuntimeError as error:
            raise ValueError(
                f"last_stride=1: {name} is made for the size of its last map ({error}); leave its stride at null."
            ) from error

    def _from_tokens(self, x: Tensor) -> Tensor:
        """A map of tokens (B, N, C)."""
        if self.has_class_token and self.tokens != "patches":
            return x[:, 0, :, None, None]
        patches: Tensor = x[:, max(self.num_prefix_tokens, int(self.has_class_token)) :].transpose(1, 2)
        height, width = self.image_size
        rows = round((patches.shape[2] * height / width) ** 0.5)
        return patches.reshape(*patches.shape[:2], rows, -1)


def create(name: str, pretrained: bool, image_size: Sequence[int], drop_path: float = 0.0) -> Any:
    """A timm network for images of a size, without classifier.

    Raises:
        ValueError: if timm has no such network, or its weights cannot be fetched.
    """
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:8]
        raise ValueError(f"backbone.name={name!r} is no network of timm. Similar: {', '.join(near) or 'none'}.")
    arguments: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0, "img_size": tuple(image_size)}
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    try:
        try:
            return _without_head(timm.create_model(name, **arguments))
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            del arguments["img_size"]  # for any size
            return _without_head(timm.create_model(name, **arguments))
    except TypeError as error:
        raise ValueError(
            f"backbone.drop_path={drop_path}: {name} has no residual branches to skip ({error})."
        ) from error
    except Exception as error:
        if not pretrained:
            raise
        raise not_fetched(name, error) from error


def _without_head(network: Any) -> Any:
    if hasattr(network, "attn_pool"):  # pools and projects for the classifier
        network.reset_classifier(0, "")
    return network

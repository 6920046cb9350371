"""Construction of models from names and specs."""

from collections.abc import Mapping, Sequence
from typing import Any

from reidlit.config import option, options
from reidlit.models.backbones import Backbone
from reidlit.models.model import ReIDModel
from reidlit.models.pretrained import load_pretrained
from reidlit.spec import TARGET, accepts, build

Spec = Mapping[str, Any]
TIMM = "timm/"


def build_model(
    name: str,
    num_classes: int,
    loss: str = "softmax",
    pretrained: bool = False,
    image_size: Sequence[int] | None = None,
) -> ReIDModel:
    """Build a model from its name.

    Args:
        name: A choice of conf/model such as `osnet_x1_0`, or `timm/<name>` for any timm network, for example
            `timm/convnext_tiny`.
        num_classes: Number of training identities.
        loss: A choice of conf/loss. All models return a `ReIDOutput`, which every loss accepts, so the name is only
            checked. The argument exists for compatibility with Torchreid.
        pretrained: Whether to load ImageNet weights into the backbone.
        image_size: Height and width in pixels, for networks with a fixed input size. Default: the size in conf/model,
            usually 256 x 128.

    Raises:
        ValueError: If the model or loss does not exist, or its ImageNet weights are not available.

    Example:
        >>> import torch
        >>> from reidlit import build_model
        >>> model = build_model("osnet_x0_25", num_classes=751).eval()
        >>> model.embed(torch.zeros(2, 3, 256, 128)).shape
        torch.Size([2, 512])
    """
    if loss not in (losses := options("loss")):
        raise ValueError(f"loss={loss!r} does not exist: must be one of {', '.join(losses)}.")
    spec = option("model", "timm" if name.startswith(TIMM) else name)
    if name.startswith(TIMM):
        spec["backbone"]["name"] = name.removeprefix(TIMM)
    spec["pretrained"] = pretrained
    if image_size is not None:
        spec["image_size"] = list(image_size)
    model: ReIDModel = build(spec, num_classes=num_classes)
    return model


def assemble(
    num_classes: int,
    backbone: Spec,
    pool: Spec,
    neck: Spec,
    classifier: Spec,
    pretrained: bool = False,
    weights: str | None = None,
    image_size: Sequence[int] = (256, 128),
    shared: Sequence[str] = (),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    temporal: Spec | None = None,
) -> ReIDModel:
    """Build a model from the specs of its components.

    Args:
        num_classes: Number of training identities.
        backbone: Spec of a network with `num_features`. It receives `pretrained` and `image_size` if the spec has these
            keys; `pretrained` means that a library provides the weights.
        pool: Spec of the pooling.
        neck: Spec of the neck of each branch; it receives `in_features`.
        classifier: Spec of the classifier of each branch; it receives `in_features` and `num_classes`.
        pretrained: Whether to load ImageNet weights into the backbone.
        weights: Name of these weights in `reidlit.models.pretrained`, if no library provides them.
        image_size: Height and width of the images in pixels.
        shared: Components, "neck" or "classifier", that all branches share.
        mean: Mean of the images per channel, in [0, 1]. Default: that of the pretrained weights, or of ImageNet.
        std: Standard deviation of the images per channel. Default: that of the pretrained weights, or of ImageNet.
        temporal: Spec of the pooling over the frames of a tracklet; it receives `in_features` if it accepts that.
            Default: the mean.

    Raises:
        ValueError: If a spec is invalid, or pretrained weights are not available.
    """
    _check(num_classes, backbone, pretrained, weights, shared)
    network = _build_backbone(backbone, image_size, pretrained and weights is None)
    size = network.num_features
    pooling = build(pool)
    branches: int = pooling.num_branches
    necks = [build(neck, in_features=size) for _ in range(1 if "neck" in shared else branches)]
    count = 1 if "classifier" in shared else branches
    bottleneck = necks[0].num_features
    classifiers = [build(classifier, in_features=bottleneck, num_classes=num_classes) for _ in range(count)]
    temporal_pooling = None if temporal is None else build(temporal, **accepts(temporal, {"in_features": size}))
    default_mean, default_std = getattr(network, "mean", Backbone.mean), getattr(network, "std", Backbone.std)
    model = ReIDModel(network, pooling, necks, classifiers, mean or default_mean, std or default_std, temporal_pooling)
    if pretrained and weights is not None:
        load_pretrained(model, weights, mean, std)
    return model


def _check(num_classes: int, backbone: Spec, pretrained: bool, weights: str | None, shared: Sequence[str]) -> None:
    """Check arguments before building anything."""
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is invalid: must be at least 1.")
    if unknown := set(shared) - {"neck", "classifier"}:
        raise ValueError(
            f"shared={list(shared)} contains unknown components {sorted(unknown)}: allowed are 'neck' and 'classifier'."
        )
    if pretrained and weights is None and "pretrained" not in backbone:
        raise ValueError(
            f"pretrained=True: no ImageNet weights are available for {backbone[TARGET]}. "
            "Set pretrained=False, or load a weight file (weights=<file> or reidlit.load_weights)."
        )


def _build_backbone(spec: Spec, image_size: Sequence[int], pretrained: bool) -> Any:
    """Build a backbone, passing image size and pretraining only if its spec has these keys."""
    offered = {"image_size": list(image_size), "pretrained": pretrained}
    return build({**spec, **{key: value for key, value in offered.items() if key in spec}})

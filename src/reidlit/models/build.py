"""Build a model from its name, or from the spec that a config or a checkpoint holds."""

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
    """Build a model of conf/model, or any of timm's.

    Args:
        name: an option of conf/model, e.g. `osnet_x1_0`, or `timm/<name>`, e.g. `timm/convnext_tiny`.
        num_classes: how many identities the classifier tells apart.
        loss: one of conf/loss. Torchreid's models return other things for other losses; these always return a
            `ReIDOutput`, which every loss can read, so the name is only checked.
        pretrained: whether the backbone starts from ImageNet weights.
        image_size: height and width in pixels, for networks that are made for one size; by default that of conf/model,
            256 x 128 for most.

    Raises:
        ValueError: if there is no such model or loss, or its weights cannot be had.
    """
    if loss not in (known := options("loss")):
        raise ValueError(f"loss={loss!r} does not exist. Options: {', '.join(known)}.")
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
    """Build the parts from their specs, each to the size of the one before.

    Args:
        num_classes: how many identities the classifier tells apart.
        backbone: builds a network with `num_features`. Is given `pretrained` where it takes that, which means that its
            library has the weights, and `image_size` where it takes that.
        pool: builds the pooling.
        neck: builds the neck of each branch; is given `in_features`.
        classifier: builds the classifier of each branch; is given `in_features` and `num_classes`.
        pretrained: whether the backbone starts from ImageNet weights.
        weights: the name of these weights in `reidlit.models.pretrained`, where no library has them.
        image_size: height and width of the images in pixels.
        shared: which of "neck" and "classifier" is one for all branches.
        mean: of the images that the weights were trained on; by default that of ImageNet, or what belongs to the
            pretrained weights.
        std: likewise.
        temporal: builds the pooling over the frames of a tracklet, by default the mean; is given `in_features` where it
            takes that.

    Raises:
        ValueError: if a spec does not fit, or weights are asked for where none are known.
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
    over_time = None if temporal is None else build(temporal, **accepts(temporal, {"in_features": size}))
    own_mean, own_std = getattr(network, "mean", Backbone.mean), getattr(network, "std", Backbone.std)
    model = ReIDModel(network, pooling, necks, classifiers, mean or own_mean, std or own_std, over_time)
    if pretrained and weights is not None:
        load_pretrained(model, weights, mean, std)
    return model


def _check(num_classes: int, backbone: Spec, pretrained: bool, weights: str | None, shared: Sequence[str]) -> None:
    """Report mistakes before anything is built."""
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be 1 or more.")
    if unknown := set(shared) - {"neck", "classifier"}:
        raise ValueError(f"shared={list(shared)} names {sorted(unknown)}; it may name 'neck' and 'classifier'.")
    if pretrained and weights is None and "pretrained" not in backbone:
        raise ValueError(
            f"pretrained=True: no ImageNet weights are known for {backbone[TARGET]}. "
            "Give a file with weights=<file>, or set pretrained=False."
        )


def _build_backbone(spec: Spec, image_size: Sequence[int], pretrained: bool) -> Any:
    """Build a `Backbone`; only some have a size or weights of their own."""
    offered = {"image_size": list(image_size), "pretrained": pretrained}
    return build({**spec, **{key: value for key, value in offered.items() if key in spec}})

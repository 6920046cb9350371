"""Build a model from its name, or from the spec that a config or a checkpoint holds."""

from collections.abc import Mapping, Sequence
from typing import Any

from reidlit.config import option, options
from reidlit.models.model import IMAGENET_MEAN, IMAGENET_STD, ReIDModel
from reidlit.spec import build

Spec = Mapping[str, Any]


def build_model(name: str, num_classes: int, loss: str = "softmax", pretrained: bool = False) -> ReIDModel:
    """Build a model of conf/model.

    Args:
        name: any option of conf/model, e.g. `osnet_x1_0`.
        num_classes: how many identities the classifier tells apart.
        loss: one of conf/loss. Torchreid's models return other things for other losses; these always return a
            `ReIDOutput`, which every loss can read, so the name is only checked.
        pretrained: whether the backbone starts from ImageNet weights.

    Raises:
        ValueError: if there is no such model or loss, or its weights cannot be had.
    """
    if loss not in (known := options("loss")):
        raise ValueError(f"loss={loss!r} does not exist. Options: {', '.join(known)}.")
    model: ReIDModel = build(option("model", name) | {"pretrained": pretrained}, num_classes=num_classes)
    return model


def assemble(
    num_classes: int,
    backbone: Spec,
    pool: Spec,
    neck: Spec,
    classifier: Spec,
    pretrained: bool = False,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> ReIDModel:
    """Build the four parts from their specs, each to the size of the one before.

    Args:
        num_classes: how many identities the classifier tells apart.
        backbone: builds a network with `num_features`; takes `pretrained` where weights exist.
        pool: builds the pooling.
        neck: builds the neck; is given `in_features`.
        classifier: builds the classifier; is given `in_features` and `num_classes`.
        pretrained: whether the backbone starts from ImageNet weights.
        mean: of the images that the weights were trained on.
        std: likewise.

    Raises:
        ValueError: if a spec does not fit, or weights are asked for where none are known.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be 1 or more.")
    if pretrained and "pretrained" not in backbone:
        raise ValueError(
            f"pretrained=True: no ImageNet weights can be fetched for {backbone['_target_']}. "
            "Give a file with weights=<file>, or set pretrained=False."
        )
    network = build({**backbone, "pretrained": True} if pretrained else backbone)
    bottleneck = build(neck, in_features=network.num_features)
    head = build(classifier, in_features=bottleneck.num_features, num_classes=num_classes)
    return ReIDModel(network, build(pool), bottleneck, head, mean, std)

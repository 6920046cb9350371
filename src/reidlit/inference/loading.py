"""Loading of trained models from checkpoints and weight files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reidlit.foreign_files import reading
from reidlit.models.build import build_model
from reidlit.models.model import ReIDModel
from reidlit.models.weights import load_embedding_weights, read_settings
from reidlit.spec import build, check_saved

DEFAULT_SIZE = (256, 128)  # height and width in pixels


class TrainedModel(NamedTuple):
    """A model in evaluation mode, with its image size and checkpoint content.

    Attributes:
        model: Model in evaluation mode.
        image_size: Height and width in pixels.
        content: Remaining content of the checkpoint; empty for a weight file.
    """

    model: ReIDModel
    image_size: tuple[int, int]
    content: dict[str, Any]


def load_trained(
    model_path: str | Path, model_name: str | None = None, image_size: tuple[int, int] | None = None
) -> TrainedModel:
    """Load a model from a checkpoint of `reidlit train` or from a weight file.

    Args:
        model_path: A `.ckpt`, `.pth` or `.pth.tar` file. Code in the file never runs, and only trusted classes are
            built; see `reidlit.spec.check_saved`.
        model_name: Architecture of a weight file. Checkpoints contain their architecture.
        image_size: Height and width in pixels. Default: the size in the checkpoint, or 256 x 128 for a weight file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file cannot be read, names untrusted classes, lacks weights of the embedding, or needs
            `model_name`.
    """
    content = read_settings(model_path)
    settings = content.get("hyper_parameters")
    if isinstance(settings, dict) and "model" in settings:
        check_saved(settings, model_path)
        with reading(model_path, "Use a checkpoint that reidlit train has written."):
            size = image_size or saved_size(settings)
            classes = settings["pids"] if "pids" in settings else settings["attributes"]
            model: ReIDModel = build(fitted(settings["model"], size), num_classes=len(classes))
        metadata = {key: value for key, value in content.items() if key != "loops"}
    elif model_name is None:
        raise ValueError(
            f"model_path={str(model_path)!r} contains only weights: set model_name to its architecture, for example "
            "model_name='osnet_x1_0'."
        )
    else:
        size, metadata = image_size or DEFAULT_SIZE, {}
        model = build_model(model_name, num_classes=1, image_size=size)
    load_embedding_weights(model, model_path, f"model_path={str(model_path)!r}")
    return TrainedModel(model.eval(), size, metadata)


def saved_size(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return the image size in the hyperparameters of a checkpoint.

    Raises:
        ValueError: If it is missing or not a height and a width in pixels.
    """
    size = settings.get("image_size")
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(type(n) is int and 0 < n < 2**16 for n in size):
        raise ValueError(f"image_size={size} is not a height and a width in pixels")
    return size[0], size[1]


def fitted(spec: Mapping[str, Any], image_size: Sequence[int]) -> dict[str, Any]:
    """Return the model spec with `image_size` set, if it has this key; most models accept any size."""
    return {**spec, "image_size": list(image_size)} if "image_size" in spec else dict(spec)

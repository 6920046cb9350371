"""Trained models from files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reidlit.models.build import build_model
from reidlit.models.model import ReIDModel
from reidlit.models.weights import load_embedding_weights, read_checkpoint
from reidlit.spec import build, check_saved

DEFAULT_SIZE = (256, 128)  # height and width in pixels
TRAINING_STATE = ("state_dict", "optimizer_states", "loops")  # of a checkpoint; not needed for inference


class TrainedModel(NamedTuple):
    """A model in evaluation mode with the image size that it is for.

    Attributes:
        model: The model, in evaluation mode.
        image_size: Height and width in pixels.
        content: Other content of a checkpoint; empty for a weight file.
    """

    model: ReIDModel
    image_size: tuple[int, int]
    content: dict[str, Any]


def load_trained(
    model_path: str | Path, model_name: str | None = None, image_size: tuple[int, int] | None = None
) -> TrainedModel:
    """Load a checkpoint of `reidlit train`, which brings its architecture and size, or a weight file.

    Args:
        model_path: a `.ckpt`, `.pth` or `.pth.tar` file. No code in it runs, and nothing is built that might do harm, see
            `reidlit.spec.check_saved`.
        model_name: the architecture of a weight file; a checkpoint needs none.
        image_size: height and width in pixels, instead of those of the checkpoint or, for a weight file, 256 x 128.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, asks to build what is not trusted, does not hold all that makes an embedding, or
            lacks a name.
    """
    content = read_checkpoint(model_path)
    settings = content.get("hyper_parameters") if isinstance(content, dict) else None
    if isinstance(settings, dict) and "model" in settings:
        check_saved(settings, model_path)
        size = image_size or (int(settings["image_size"][0]), int(settings["image_size"][1]))
        classes = settings["pids"] if "pids" in settings else settings["attributes"]
        model: ReIDModel = build(fitted(settings["model"], size), num_classes=len(classes))
        about = {key: value for key, value in content.items() if key not in TRAINING_STATE}
    elif model_name is None:
        raise ValueError(
            f"model_path={str(model_path)!r} holds weights alone, so the architecture must be named: model_name='osnet_x1_0', say."
        )
    else:
        size, about = image_size or DEFAULT_SIZE, {}
        model = build_model(model_name, num_classes=1, image_size=size)
    load_embedding_weights(model, model_path, f"model_path={str(model_path)!r}")
    return TrainedModel(model.eval(), size, about)


def fitted(spec: Mapping[str, Any], image_size: Sequence[int]) -> dict[str, Any]:
    """Return the spec of a model for images of a size; most models take any size and do not name one."""
    return {**spec, "image_size": list(image_size)} if "image_size" in spec else dict(spec)

"""A trained model from a file."""

from pathlib import Path
from typing import Any, NamedTuple

from reidlit.models.build import build_model
from reidlit.models.model import ReIDModel
from reidlit.models.weights import load_weights, read_checkpoint
from reidlit.spec import build, check_saved


class Trained(NamedTuple):
    """A model in evaluation mode, and the height and width in pixels of the images that it is for."""

    model: ReIDModel
    image_size: tuple[int, int]
    content: dict[str, Any]  # what else the file tells; empty for a weight file


def load_trained(
    model_path: str | Path, model_name: str | None = None, image_size: tuple[int, int] | None = None
) -> Trained:
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
        spec = dict(settings["model"]) | ({"image_size": list(size)} if "image_size" in settings["model"] else {})
        classes = settings["pids"] if "pids" in settings else settings["attributes"]
        model: ReIDModel = build(spec, num_classes=len(classes))
        known = {key: value for key, value in content.items() if key not in ("state_dict", "optimizer_states", "loops")}
    elif model_name is None:
        raise ValueError(
            f"model_path={str(model_path)!r} holds weights alone, so the architecture must be named: model_name='osnet_x1_0', say."
        )
    else:
        size, known = image_size or (256, 128), {}
        model = build_model(model_name, num_classes=1, image_size=size)
    report = load_weights(model, model_path)
    if not report.embeds:
        raise ValueError(
            f"model_path={str(model_path)!r} does not hold all that makes an embedding of this model.\n{report}"
        )
    return Trained(model.eval(), size, known)

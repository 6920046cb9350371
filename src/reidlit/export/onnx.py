"""A model as an ONNX file."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.export.batch_norm_folding import folded
from reidlit.models.model import ReIDModel


class Embedder(nn.Module):
    """Images in, embeddings out: what an exported file does.

    Args:
        model: in evaluation mode.
        normalize: whether embeddings come out with length one.
    """

    def __init__(self, model: ReIDModel, normalize: bool = False) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, D)."""
        embedding = self.model.embed(image)
        return functional.normalize(embedding) if self.normalize else embedding


def embedder(model: ReIDModel, image_size: tuple[int, int], normalize: bool = False) -> Embedder:
    """What is exported: images in, embeddings out, with batch norms folded and low-rank additions merged.

    Args:
        model: stays as it is.
        image_size: height and width in pixels.
        normalize: whether embeddings come out with length one.

    Raises:
        ValueError: if the model needs the camera of an image.
    """
    if model.uses_cameras:
        raise ValueError("a model that uses cameras cannot be exported: its file would take images alone.")
    return Embedder(folded(model, image_size), normalize).eval()


def export_onnx(model: ReIDModel, path: str | Path, image_size: tuple[int, int]) -> None:
    """Write a file with the input `image` (B, 3, H, W) uint8 and the output `embedding` (B, D) float32, for any B.

    Normalisation is part of it, batch norms are folded, low-rank additions merged.

    Args:
        model: on the CPU.
        path: of the file.
        image_size: height and width in pixels.

    Raises:
        ValueError: if the model needs the camera of an image, has an operation that ONNX does not have, or `onnx` and
            `onnxscript` are not installed.
    """
    write_onnx(embedder(model, image_size), Path(path), image_size)


def write_onnx(module: Embedder, path: Path, image_size: tuple[int, int]) -> None:
    """Write an embedder; see `export_onnx`.

    Raises:
        ValueError: if the model has an operation that ONNX does not have, or `onnx` and `onnxscript` are not installed.
    """
    image = torch.zeros(2, 3, *image_size, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=65536)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                module,
                (image,),
                dynamo=True,
                input_names=["image"],
                output_names=["embedding"],
                dynamic_shapes={"image": {0: batch}},
                verbose=False,
            )
    except ImportError as error:
        raise ValueError(f"ONNX export needs what is not installed ({error}): pip install reidlit[export].") from error
    except Exception as error:
        cause = error.__cause__ or error  # the exporter's own message tells of its steps
        raise ValueError(f"this model cannot be exported to ONNX: {str(cause).splitlines()[0]}") from error
    if program is None:
        raise ValueError("this model cannot be exported to ONNX.")
    program.save(str(path))

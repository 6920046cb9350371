"""Export to ONNX."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from reidlit.export.batch_norm_folding import folded
from reidlit.models.model import ReIDModel


class Embedder(nn.Module):
    """Module that maps images to embeddings, the content of an exported file.

    Args:
        model: Model in evaluation mode.
        normalize: Whether to scale embeddings to unit length.
    """

    def __init__(self, model: ReIDModel, normalize: bool = False) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize

    def forward(self, image: Tensor) -> Tensor:
        """Embed images (B, 3, H, W), uint8, as (B, D)."""
        embedding = self.model.embed(image)
        return functional.normalize(embedding) if self.normalize else embedding


def embedder(model: ReIDModel, image_size: tuple[int, int], normalize: bool = False) -> Embedder:
    """Return the module to export, with folded batch norms and merged LoRA layers.

    Args:
        model: Model to copy; it is not changed.
        image_size: Height and width in pixels.
        normalize: Whether to scale embeddings to unit length.

    Raises:
        ValueError: If the model uses cameras.
    """
    if model.uses_cameras:
        raise ValueError("The model uses cameras, so it cannot be exported: exported files take only images.")
    return Embedder(folded(model, image_size), normalize).eval()


def export_onnx(model: ReIDModel, path: str | Path, image_size: tuple[int, int]) -> None:
    """Write an ONNX file with input `image` (B, 3, H, W), uint8, and output `embedding` (B, D), float32, for any B.

    The file includes the image normalization. Batch norms are folded and LoRA layers are merged.

    Args:
        model: Model on the CPU.
        path: Path of the file.
        image_size: Height and width in pixels.

    Raises:
        ValueError: If the model uses cameras or an operation that ONNX does not have, or `onnx` or `onnxscript` is not
            installed.
    """
    write_onnx(embedder(model, image_size), Path(path), image_size)


def write_onnx(module: Embedder, path: Path, image_size: tuple[int, int]) -> None:
    """Write an embedder as an ONNX file; see `export_onnx`.

    Raises:
        ValueError: If the model uses an operation that ONNX does not have, or `onnx` or `onnxscript` is not installed.
    """
    image = torch.zeros(2, 3, *image_size, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=65536)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecation warnings within the exporter
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
        raise ValueError(
            f"ONNX export requires a missing package ({error}): run pip install 'reidlit[export]'."
        ) from error
    except Exception as error:
        cause = error.__cause__ or error  # the error of the exporter itself only lists its steps
        raise ValueError(f"The model cannot be exported to ONNX: {str(cause).splitlines()[0]}") from error
    if program is None:
        raise ValueError("The model cannot be exported to ONNX: the exporter returned no program.")
    program.save(str(path))

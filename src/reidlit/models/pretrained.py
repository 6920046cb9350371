"""ImageNet weights that neither timm nor torchvision provides: download addresses and metadata."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import torch
from torch.hub import download_url_to_file

from reidlit.locks import locked
from reidlit.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from reidlit.models.model import ReIDModel
from reidlit.models.weights import load_embedding_weights

DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
RESEARCH = "MIT code; trained on ImageNet, which allows research use only"
HALF = (0.5, 0.5, 0.5)


class Source(NamedTuple):
    """Address and metadata of a weight file.

    Attributes:
        url: Download address.
        sha256: Checksum or its first digits; None if no checksum is published.
        mean: Mean of the training images per channel, in [0, 1].
        std: Standard deviation of the training images per channel.
        licence: License of the weights.
    """

    url: str
    sha256: str | None = None
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    licence: str = RESEARCH


def _drive(identifier: str) -> Source:
    return Source(DRIVE + identifier)


SOURCES = {
    "osnet_x1_0": _drive("1LaG1EJpHrxdAxKnSCJ_i0u-nbxSAeiFY"),
    "osnet_x0_75": _drive("1uwA9fElHOk3ZogwbeY5GkLI6QPTX70Hq"),
    "osnet_x0_5": _drive("16DGLbZukvVYgINws8u8deSaOqjybZ83i"),
    "osnet_x0_25": _drive("1rb8UN5ZzPKRc_xvtHlyDh-cSz88YX9hs"),
    "osnet_ibn_x1_0": _drive("1sr90V6irlYYDd4_4ISU2iruoRG8J__6l"),
    "osnet_ain_x1_0": _drive("1-CaioD9NaqbHK_kzSMW8VE4_3KcsRjEo"),
    "osnet_ain_x0_75": _drive("1apy0hpsMypqstfencdH-jKIUEFOW4xoM"),
    "osnet_ain_x0_5": _drive("1KusKvEYyKGDTUBVRxRiz55G31wkihB6l"),
    "osnet_ain_x0_25": _drive("1SxQt2AvmEcgWNhaRb2xC4rP6ZwVDP0Wt"),
    "shufflenet": _drive("1RFnYcHK1TM-yt3yLsNecaKCoFO4Yb6a-"),
    "mobilenetv2_x1_0": _drive("1K7_CZE_L_Tf-BRY6_vVm0G-0ZKjVWh3R"),
    "mobilenetv2_x1_4": _drive("10c0ToIGIVI0QZTx284nJe8QfSJl5bIta"),
    "mlfn": _drive("1PP8Eygct5OF4YItYRfA3qypYY9xiqHuV"),
    "nasnetamobile": Source(
        "http://data.lip6.fr/cadene/pretrainedmodels/nasnetamobile-7e03cead.pth", "7e03cead", HALF, HALF
    ),
    "resnet50_ibn_a": Source(
        "https://github.com/XingangPan/IBN-Net/releases/download/v1.0/resnet50_ibn_a-d9d0bb7b.pth", "d9d0bb7b"
    ),
    "resnet50_ibn_b": Source(
        "https://github.com/XingangPan/IBN-Net/releases/download/v1.0/resnet50_ibn_b-9ca61e85.pth", "9ca61e85"
    ),
}


def load_pretrained(
    model: ReIDModel, name: str, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> None:
    """Load pretrained weights into a model and set the image normalization that belongs to them.

    The classifier keeps its weights if the number of classes differs. All other weights must match.

    Args:
        model: Model to modify.
        name: Key of `SOURCES`.
        mean: Mean of the images per channel. Default: that of the weights.
        std: Standard deviation of the images per channel. Default: that of the weights.

    Raises:
        ValueError: If the name is unknown, the download fails, or the file does not match the model.
    """
    file = fetch(name)
    load_embedding_weights(model, file, f"pretrained=True: {file}")
    source = SOURCES[name]
    with torch.no_grad():
        model.mean.copy_(torch.tensor(mean or source.mean).view_as(model.mean))
        model.std.copy_(torch.tensor(std or source.std).view_as(model.std))


def fetch(name: str) -> Path:
    """Return the path of a weight file in PyTorch's checkpoint folder (TORCH_HOME), downloading it if it is missing.

    Raises:
        ValueError: If the name is unknown or the download fails.
    """
    if name not in SOURCES:
        raise ValueError(f"weights={name!r} does not exist: must be one of {', '.join(sorted(SOURCES))}.")
    url, digest, *_ = SOURCES[name]
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}_imagenet.pth"
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(file):
            if not file.is_file():  # downloads to a temporary file, which replaces the target only when it is complete
                download_url_to_file(url, os.fspath(file), hash_prefix=digest, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise ValueError(
            f"pretrained=True: the ImageNet weights {name!r} cannot be downloaded from {url} ({error}). Connect to the "
            f"internet once, save the file as {file}, pass another file with weights=<file>, or set pretrained=False."
        ) from error
    return file


def download_error(name: str, error: Exception) -> ValueError:
    """Return the error for weights that a library could not download."""
    return ValueError(
        f"pretrained=True: the ImageNet weights of {name!r} cannot be downloaded ({error}). "
        "Connect to the internet once, pass a file with weights=<file>, or set pretrained=False."
    )

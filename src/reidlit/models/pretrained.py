"""ImageNet weights that neither timm nor torchvision has: where they lie, and what belongs to them.

For the networks of timm and torchvision these libraries fetch the weights.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import torch
from torch.hub import download_url_to_file

from reidlit.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from reidlit.models.model import ReIDModel
from reidlit.models.weights import load_embedding_weights

DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
RESEARCH = "MIT code; trained on ImageNet, whose terms allow research only"
HALF = (0.5, 0.5, 0.5)


class Source(NamedTuple):
    """One weight file.

    Attributes:
        url: Where it lies.
        sha256: Its checksum, or how that begins; None where nobody published it.
        mean: Of the images that it was trained on, each channel, 0 to 1.
        std: Likewise.
        licence: What is known of it.
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
    """Fetch weights once, load them into a model, and set the normalisation that belongs to them.

    A classifier for other classes stays as it is; everything else must fit.

    Args:
        model: Model to change.
        name: Key of `SOURCES`.
        mean: Mean of the images per channel, instead of that of the weights.
        std: Standard deviation of the images per channel, instead of that of the weights.

    Raises:
        ValueError: if the name is unknown, the file cannot be fetched, or a part of the embedding is not in it.
    """
    file = fetch(name)
    load_embedding_weights(model, file, f"pretrained=True: {file}")
    source = SOURCES[name]
    with torch.no_grad():
        model.mean.copy_(torch.tensor(mean or source.mean).view_as(model.mean))
        model.std.copy_(torch.tensor(std or source.std).view_as(model.std))


def fetch(name: str) -> Path:
    """The file of a source, in PyTorch's folder of checkpoints (TORCH_HOME); downloaded if it is not there.

    Raises:
        ValueError: if the name is unknown, or the file cannot be fetched whole.
    """
    if name not in SOURCES:
        raise ValueError(f"weights={name!r} are unknown. Known: {', '.join(sorted(SOURCES))}.")
    url, digest, *_ = SOURCES[name]
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"{name}_imagenet.pth"
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Downloads beside the file, and moves it there when it is whole.
        download_url_to_file(url, os.fspath(file), hash_prefix=digest, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise ValueError(
            f"pretrained=True: the ImageNet weights {name!r} cannot be fetched from {url} ({error}). Connect to the "
            f"network once, put the file at {file}, give another with weights=<file>, or set pretrained=False."
        ) from error
    return file


def not_fetched(name: str, error: Exception) -> ValueError:
    """What to say where a library could not fetch its weights."""
    return ValueError(
        f"pretrained=True: the ImageNet weights of {name!r} cannot be fetched ({error}). "
        "Connect to the network once, give weights=<file>, or set pretrained=False."
    )

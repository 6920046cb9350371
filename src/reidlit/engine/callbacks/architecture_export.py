"""The architecture that a search has found, as a file that trains."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import OmegaConf
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from reidlit.config import option, options
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.architecture_search import ArchitectureSearchModule
from reidlit.files import atomic_write
from reidlit.models.backbones.osnet_ain import CANDIDATES, OSNetAIN
from reidlit.spec import TARGET

NAME = "osnet_ain_found"
PARTS = ("pool", "temporal", "neck", "classifier")


class FoundArchitecture(pl.Callback):
    """Writes the most probable architecture after each epoch, as `<folder>/model/osnet_ain_found.yaml`.

    That is the model of the search, with an `OSNetAIN` of the layout found in the place of its backbone:
    `reidlit train --config-dir <folder> model=osnet_ain_found`.

    Args:
        folder: becomes a folder of configuration.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.folder / "model" / f"{NAME}.yaml"

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, whole."""
        module = cast("ArchitectureSearchModule", pl_module)
        datamodule = cast("ReIDDataModule", getattr(trainer, "datamodule", None))
        epoch = trainer.current_epoch
        told = (
            f"Found on {datamodule.name}; epochs: {epoch + 1}, temperature: {module.temperature_of(epoch):g}, mean entropy of "
            f"the choices: {module.space.entropy.mean():.3f} nats, of {math.log(len(CANDIDATES)):.3f} before the search."
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path, as_option(module, told).encode())

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what was found, and how to train it."""
        layout = cast("ArchitectureSearchModule", pl_module).space.layout
        Console().print(
            f"found: [{', '.join(layout)}]; train it by reidlit train --config-dir {self.folder} model={NAME}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


def as_option(module: ArchitectureSearchModule, told: str) -> str:
    """The model found, as YAML for a folder `model`.

    Args:
        module: of the search.
        told: a comment.
    """
    model, space = module.hparams["model"], module.space
    chosen = {part: _option(part, model[part]) for part in PARTS if model.get(part)}
    backbone = {TARGET: f"{OSNetAIN.__module__}.{OSNetAIN.__name__}", "width": space.width, "layout": space.layout}
    content = {
        # So that model/neck=... can be given for it as for other models.
        "defaults": [*({part: name} for part, name in chosen.items() if name), "_self_"],
        **model,
        "backbone": backbone,
    }
    for part, name in chosen.items():
        if name and option(f"model/{part}", name) == model[part]:
            del content[part]
    rows = zip(space.positions, space.probabilities.tolist(), strict=True)
    shares = [
        f"#   {name}: " + ", ".join(f"{word} {share:.3f}" for word, share in zip(CANDIDATES, row, strict=True))
        for name, row in rows
    ]
    title = (
        '# OSNet-AIN of a layout found. Zhou, Yang, Cavallaro, Xiang, "Learning Generalisable Omni-Scale Representations for '
        'Person Re-Identification", TPAMI 2021.'
    )
    return "\n".join([title, f"# {told}", *shares, OmegaConf.to_yaml(OmegaConf.create(content))])


def _option(part: str, spec: Mapping[str, Any]) -> str | None:
    """The option of conf/model/<part> that a spec is, else one with the same keys, of which it changes values."""
    known = {name: option(f"model/{part}", name) for name in options(f"model/{part}")}
    alike = [name for name, own in known.items() if own.keys() == spec.keys() and own[TARGET] == spec[TARGET]]
    same = [name for name in alike if known[name] == spec]
    return next(iter([*same, *alike]), None)

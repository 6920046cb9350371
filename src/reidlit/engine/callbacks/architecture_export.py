"""Export of the architecture found by a search as a model configuration."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from reidlit.config import option, options
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.architecture_search import ArchitectureSearchModule
from reidlit.files import atomic_write
from reidlit.models.backbones.osnet_ain import CANDIDATES, OSNetAIN
from reidlit.spec import TARGET

NAME = "osnet_ain_found"
COMPONENTS = ("pool", "temporal", "neck", "classifier")


class FoundArchitecture(pl.Callback):
    """Callback that writes the most probable architecture of a search after each epoch.

    The file `<folder>/model/osnet_ain_found.yaml` contains the model of the search, with an `OSNetAIN` of the layout
    found as its backbone. Train it with `reidlit train --config-dir <folder> model=osnet_ain_found`.

    Args:
        folder: Folder that becomes a configuration folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.folder / "model" / f"{NAME}.yaml"

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file atomically."""
        module = cast("ArchitectureSearchModule", pl_module)
        datamodule = cast("ReIDDataModule", getattr(trainer, "datamodule", None))
        epoch = trainer.current_epoch
        comment = (
            f"Found on {datamodule.name}; epochs: {epoch + 1}, temperature: {module.temperature_of(epoch):g}, mean "
            f"entropy of the choices: {module.space.entropy.mean():.3f} nats ({math.log(len(CANDIDATES)):.3f} before "
            "the search)."
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path, as_option(module, comment).encode())

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the architecture and the command that trains it."""
        layout = cast("ArchitectureSearchModule", pl_module).space.layout
        say(f"Found: [{', '.join(layout)}]. Train it with: reidlit train --config-dir {self.folder} model={NAME}")


def as_option(module: ArchitectureSearchModule, comment: str) -> str:
    """Return the model found as the YAML of a choice in the configuration group `model`.

    Args:
        module: Module of the search.
        comment: Line of text for the head of the file.
    """
    model, space = module.hparams["model"], module.space
    choices = {component: _choice(component, model[component]) for component in COMPONENTS if model.get(component)}
    backbone = {TARGET: f"{OSNetAIN.__module__}.{OSNetAIN.__name__}", "width": space.width, "layout": space.layout}
    content = {
        # The defaults list makes overrides such as model/neck=... work as for other models.
        "defaults": [*({component: name} for component, name in choices.items() if name), "_self_"],
        **model,
        "backbone": backbone,
    }
    for component, name in choices.items():
        if name and option(f"model/{component}", name) == model[component]:
            del content[component]
    rows = zip(space.positions, space.probabilities.tolist(), strict=True)
    probabilities = [
        f"#   {name}: "
        + ", ".join(f"{candidate} {value:.3f}" for candidate, value in zip(CANDIDATES, row, strict=True))
        for name, row in rows
    ]
    title = (
        "# OSNet-AIN with a layout found by architecture search. Zhou, Yang, Cavallaro, Xiang, "
        '"Learning Generalisable Omni-Scale Representations for Person Re-Identification", TPAMI 2021.'
    )
    return "\n".join([title, f"# {comment}", *probabilities, OmegaConf.to_yaml(OmegaConf.create(content))])


def _choice(component: str, spec: Mapping[str, Any]) -> str | None:
    """Return the choice in conf/model/<component> that equals a spec, or else one that differs in values only."""
    specs = {name: option(f"model/{component}", name) for name in options(f"model/{component}")}
    similar = [name for name, other in specs.items() if other.keys() == spec.keys() and other[TARGET] == spec[TARGET]]
    equal = [name for name in similar if specs[name] == spec]
    return next(iter([*equal, *similar]), None)

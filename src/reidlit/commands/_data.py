"""Construction of the dataset that a configuration names, or of the datasets of `data=multi`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose
from hydra.errors import MissingConfigException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from reidlit.commands._errors import wrong_types_named
from reidlit.data.attribute_data import AttributeDataModule
from reidlit.data.datamodule import ReIDDataModule, count
from reidlit.data.sample import Sample
from reidlit.data.transforms.pipeline import select
from reidlit.data.video import VideoLoading

RECIPES = ("train", "test")  # recipes in conf/transforms; the other keys are steps
LISTS = ("sources", "targets")  # keys of conf/data/multi.yaml that name other datasets
CHOICE = re.compile(r"\w[\w.-]*")  # a name of a YAML file, which must not lead out of the configuration folders


@wrong_types_named()
def build_datamodule(cfg: DictConfig) -> ReIDDataModule:
    """Build the dataset with its transforms and its sampler.

    Raises:
        ValueError: If a source or a target is not a choice of `data`, or an option is invalid.
    """
    library = {name: instantiate(step, _convert_="all") for name, step in cfg.transforms.items() if name not in RECIPES}
    train, test = (select(library, cfg.transforms[recipe]) for recipe in RECIPES)
    objects = {
        "train_transform": train,
        "test_transform": test,
        "sampler": instantiate(cfg.sampler),
        "seed": cfg.seed,
    }
    shared = {key: cfg.data[key] for key in VideoLoading.__annotations__ if key in cfg.data and key != "name"}
    built: dict[str, ReIDDataModule] = {}  # a dataset that is both source and target is built once

    def build(entry: str | Mapping[str, Any]) -> ReIDDataModule:
        if str(entry) not in built:
            spec = {**_without_size(_option(entry, cfg.data.root)), **shared}
            built[str(entry)] = instantiate(spec, **objects)
        return built[str(entry)]

    lists = {
        key: None if cfg.data[key] is None else [build(entry) for entry in cfg.data[key]]
        for key in LISTS
        if key in cfg.data
    }
    settings = {key: value for key, value in _without_size(cfg.data).items() if key not in lists}
    datamodule: ReIDDataModule = instantiate(settings, **lists, **objects)
    for part in datamodule.parts:
        if "/" in part.name:
            raise ValueError(
                f"data.name={part.name} is invalid: it must not contain a slash, which separates the parts of metric "
                "names."
            )
    return datamodule


def _option(entry: str | Mapping[str, Any], root: str) -> DictConfig:
    """Compose the dataset of an entry such as `market1501` or `{market1501: {market1501_500k: true}}`."""
    if not isinstance(entry, str) and len(entry) != 1:
        raise ValueError(
            f"data.sources or data.targets contains {entry}: must be a name, or one name with its options."
        )
    name, changes = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    if not CHOICE.fullmatch(str(name)):
        raise ValueError(f"data.sources or data.targets contains {name!r}, which is not a choice of data.")
    try:
        spec = compose(f"data/{name}").data
    except MissingConfigException as error:
        raise ValueError(
            f"data.sources or data.targets contains {name!r}, which is not a choice of data. `reidlit train --help` "
            "lists the choices."
        ) from error
    if unknown := sorted(set(changes) - set(spec)):
        raise ValueError(f"data={name} has no option {unknown}. Its options are {sorted(spec)}.")
    if not OmegaConf.is_missing(spec, "root") and spec.root is not None:
        spec.root = root
    merged = OmegaConf.merge(spec, changes)
    if not isinstance(merged, DictConfig):
        raise TypeError(f"conf/data/{name}.yaml is invalid: must contain a mapping.")
    return merged


def _without_size(spec: DictConfig) -> dict[str, Any]:
    """Return a spec without the image size, which only the transforms use."""
    return {str(key): value for key, value in spec.items() if key not in ("height", "width")}


def training_summary(datamodule: ReIDDataModule) -> str:
    """Describe the training set: one line for each source, the validation set, splits and usage notices."""
    if isinstance(datamodule, AttributeDataModule):
        counts = {split: len(datamodule.samples(split)) for split in datamodule.splits}
        described = ", ".join(f"{number:,} {split} images" for split, number in counts.items() if number)
        return f"{datamodule.name}: {len(datamodule.names)} attributes, {described}"
    item_name = datamodule.item_name
    sources = [(source.name, source.training_samples()) for source in datamodule.sources]
    lines = [f"{name}: training on {_size(samples, item_name)}" for name, samples in sources]
    if len(sources) > 1:
        lines.append(f"total: {_size(datamodule.train, item_name)}")
    if datamodule.val:
        queries, gallery = len(datamodule.val.query), len(datamodule.val.gallery)
        lines.append(f"validation: {queries:,} queries, {gallery:,} gallery {item_name}")
    lines += [f"{part.name}: split saved in {part.split_path}" for part in datamodule.parts if part.split_path]
    return "\n".join([*lines, *(part.usage_notice for part in datamodule.sources if part.usage_notice)])


def _size(samples: Sequence[Sample], item_name: str) -> str:
    identities, images, cameras = count(samples)
    return (
        f"{identities:,} identities, {images:,} {item_name}, {f'{cameras} cameras' if cameras else 'no camera labels'}"
    )

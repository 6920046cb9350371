"""The dataset that a configuration names, or the several that `data=multi` names."""

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

RECIPES = ("train", "test")  # of conf/transforms; its other keys are steps
LISTS = ("sources", "targets")  # of conf/data/multi.yaml: names of other options


@wrong_types_named()
def build_datamodule(cfg: DictConfig) -> ReIDDataModule:
    """The dataset with its transforms and its sampler.

    Raises:
        ValueError: if a source or a target is no option of `data`.
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
    known: dict[str, ReIDDataModule] = {}  # a dataset that is source and target is built once

    def one(entry: str | Mapping[str, Any]) -> ReIDDataModule:
        if str(entry) not in known:
            spec = {**_without_size(_option(entry, cfg.data.root)), **shared}
            known[str(entry)] = instantiate(spec, **objects)
        return known[str(entry)]

    lists = {
        key: None if cfg.data[key] is None else [one(entry) for entry in cfg.data[key]]
        for key in LISTS
        if key in cfg.data
    }
    settings = {key: value for key, value in _without_size(cfg.data).items() if key not in lists}
    datamodule: ReIDDataModule = instantiate(settings, **lists, **objects)
    for part in datamodule.parts:
        if "/" in part.name:
            raise ValueError(
                f"data.name={part.name} must not contain a slash, which separates the parts of a metric's name."
            )
    return datamodule


def _option(entry: str | Mapping[str, Any], root: str) -> DictConfig:
    """An entry such as `market1501`, or `{market1501: {market1501_500k: true}}`, as that option of `data`."""
    if not isinstance(entry, str) and len(entry) != 1:
        raise ValueError(f"data.sources or data.targets holds {entry}: give a name, or one name with its options.")
    name, changes = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    try:
        spec = compose(f"data/{name}").data
    except MissingConfigException as error:
        raise ValueError(
            f"data.sources or data.targets names {name!r}, which is no option of data; reidlit train --help lists them."
        ) from error
    if unknown := sorted(set(changes) - set(spec)):
        raise ValueError(f"data={name} has no option {unknown}; it has {sorted(spec)}.")
    if not OmegaConf.is_missing(spec, "root") and spec.root is not None:
        spec.root = root
    merged = OmegaConf.merge(spec, changes)
    if not isinstance(merged, DictConfig):
        raise TypeError(f"conf/data/{name}.yaml must hold a mapping.")
    return merged


def _without_size(spec: DictConfig) -> dict[str, Any]:
    """The same without the size of the images, which the transforms have read."""
    return {str(key): value for key, value in spec.items() if key not in ("height", "width")}


def training_summary(datamodule: ReIDDataModule) -> str:
    """Describe what is trained on: a line for each source, the held-out identities, and notices to users of the data."""
    if isinstance(datamodule, AttributeDataModule):
        counts = {split: len(datamodule.samples(split)) for split in datamodule.splits}
        described = ", ".join(f"{number:,} images for {split}" for split, number in counts.items() if number)
        return f"{datamodule.name}: {len(datamodule.names)} attributes, {described}"
    item_name = datamodule.item_name
    parts = [(part.name, part.training_samples()) for part in datamodule.sources]
    lines = [f"{name}: trained on {_size(samples, item_name)}" for name, samples in parts]
    if len(parts) > 1:
        lines.append(f"together: {_size(datamodule.train, item_name)}")
    if datamodule.val:
        queries, gallery = len(datamodule.val.query), len(datamodule.val.gallery)
        lines.append(f"held out for validation: {queries} queries, {gallery} gallery")
    lines += [f"{part.name}: the split is kept in {part.split_path}" for part in datamodule.parts if part.split_path]
    return "\n".join([*lines, *(part.usage_notice for part in datamodule.sources if part.usage_notice)])


def _size(samples: Sequence[Sample], item_name: str) -> str:
    identities, images, cameras = count(samples)
    return f"{identities:,} identities, {images:,} {item_name}, {cameras or 'no known'} cameras"

"""Rules for the datasets and how they are read."""

from collections.abc import Sequence
from typing import Any

from hydra import compose
from hydra.errors import MissingConfigException

from reidlit.compat.torchreid.result import Found, Override, Remark, idle
from reidlit.compat.torchreid.settings import Settings
from reidlit.config import options

# Torchreid applies them in this order, whatever that of the list.
ORDER = ("random_flip", "random_crop", "random_patch", "color_jitter", "random_erase")
SAMPLERS = {
    "RandomSampler": "random",
    "SequentialSampler": "sequential",
    "RandomIdentitySampler": "identity",
    "RandomDomainSampler": "domain",
    "RandomDatasetSampler": "dataset",
}


def trained_data(settings: Settings) -> Found:
    """What is trained on and what is tested on."""
    sources, targets = settings["data.sources"], settings["data.targets"]
    yield from _datasets(settings, sources, targets)
    if "data.sources" in settings.given and "data.targets" not in settings.given and sources != targets:
        yield Remark(f"data.targets is not given, so Torchreid tests on its default, {', '.join(targets)}.")
    if settings["data.combineall"]:
        yield Override("data.combineall", True)
    if settings["data.load_train_targets"]:
        yield Remark(
            "data.load_train_targets: no engine of Torchreid reads these images. data=multi data.load_train_targets=true "
            "gives them to an engine of yours."
        )
    elif settings.changed("sampler.train_sampler_t"):
        yield from idle(settings, ["sampler.train_sampler_t"], "as data.load_train_targets is False")


def tested_data(settings: Settings) -> Found:
    """What is tested on."""
    yield from _datasets(settings, settings["data.targets"], settings["data.targets"])


def _datasets(settings: Settings, sources: Sequence[str], targets: Sequence[str]) -> Found:
    names = [*dict.fromkeys([*sources, *targets])]
    changes = {name: _options(name, settings) for name in names}
    if len(names) == len(sources) == 1:
        yield Override("data", names[0])
        for key, value in changes[names[0]].items():
            yield Override(f"data.{key}", value)
    else:
        yield Override("data", "multi_video" if settings["data.type"] == "video" else "multi")
        yield Override("data.sources", [_entry(name, changes[name]) for name in sources])
        if sources != targets:
            yield Override("data.targets", [_entry(name, changes[name]) for name in targets])
    if "market1501" not in names:
        yield from idle(settings, ["market1501.use_500k_distractors"], "as there is no market1501")
    if "cuhk03" not in names:
        yield from idle(settings, ["cuhk03.labeled_images", "cuhk03.classic_split"], "as there is no cuhk03")
    if settings["data.split_id"] and not any("split_id" in each for each in changes.values()):
        yield from idle(settings, ["data.split_id"], "as the dataset has one split")


def _entry(name: str, changes: dict[str, Any]) -> str | dict[str, Any]:
    return {name: changes} if changes else name


def _options(name: str, settings: Settings) -> dict[str, Any]:
    """The options of a dataset that are to be changed.

    Raises:
        ValueError: if it is no option of data, or of the other kind.
    """
    try:
        known = compose(f"data/{name}").data
    except MissingConfigException as error:
        raise ValueError(
            f"data.sources or data.targets names {name!r}, which is no option of data. One that you registered needs a file "
            "and a YAML here (docs/own-dataset.md); then add --config-dir <folder> to this command."
        ) from error
    kind = "video" if "seq_len" in known else "image"
    if kind != settings["data.type"]:
        raise ValueError(f"data.type={settings['data.type']}, but {name} is for data.type={kind}.")
    wanted = {
        "market1501_500k": name == "market1501" and settings["market1501.use_500k_distractors"],
        "cuhk03_labeled": name == "cuhk03" and settings["cuhk03.labeled_images"],
        "cuhk03_classic_split": name == "cuhk03" and settings["cuhk03.classic_split"],
        "include_val": name == "msmt17" and settings["data.combineall"],
        "split_id": settings["data.split_id"],
    }
    return {key: value for key, value in wanted.items() if value and key in known}


def loading(settings: Settings) -> Found:
    """Where the files are, and the size of the images."""
    yield Override("data.height", settings["data.height"])
    yield Override("data.width", settings["data.width"])
    if "data.root" in settings.given:
        yield Override("data.root", settings["data.root"], always=True)
    else:
        yield Remark(
            "data.root: datasets are looked for in $REIDLIT_DATA, or data; Torchreid's default is data.root=reid-data."
        )
    if "data.workers" in settings.given:
        yield Override("data.num_workers", settings["data.workers"])
    if "test.batch_size" in settings.given:
        yield Override("data.test_batch_size", settings["test.batch_size"])


def views(settings: Settings) -> Found:
    """Several views of an image."""
    if settings.changed("data.k_tfm"):
        yield Override("data.k_tfm", settings["data.k_tfm"])
        yield Remark("data.k_tfm: no engine of Torchreid takes several views; here all of them are trained on.")


def sampler(settings: Settings) -> Found:
    """How a training batch is drawn."""
    name, batch = settings["sampler.train_sampler"], settings["train.batch_size"]
    size, used = settings["sampler.num_instances"], "sampler.num_instances"
    yield Override("sampler", SAMPLERS[name])
    if name == "SequentialSampler":
        yield Override("sampler.drop_last", True)
    elif name == "RandomIdentitySampler":
        yield Override("sampler.num_instances", size)
        if 0 < size <= batch and batch % size:
            yield Remark(
                f"train.batch_size={batch} is no multiple of sampler.num_instances={size}, so Torchreid's batches cut identities "
                f"in two; here it is {batch // size * size}."
            )
            batch = batch // size * size
    elif name in ("RandomDomainSampler", "RandomDatasetSampler"):
        used = "sampler.num_cams" if name == "RandomDomainSampler" else "sampler.num_datasets"
        yield Override(used, settings[used] if settings[used] > 0 else None)
    if name == "RandomSampler" and settings["loss.name"] == "triplet" and settings["loss.triplet.weight_t"]:
        yield Remark(
            "sampler.train_sampler: with RandomSampler hardly an image meets another of its identity, so the triplet loss has "
            "nothing to learn from. Leave sampler=random out to have sampler=identity."
        )
    yield Override("data.batch_size", batch)
    others = {"sampler.num_instances", "sampler.num_cams", "sampler.num_datasets"} - {used}
    if name != "RandomIdentitySampler":
        others.add("sampler.num_instances")
    yield from idle(settings, sorted(others), f"as sampler.train_sampler is {name}")


def transforms(settings: Settings) -> Found:
    """How training images are augmented."""
    asked = [name.lower() for name in settings["data.transforms"]]
    if unknown := [name for name in asked if name not in ORDER and name]:
        yield Remark(
            f"data.transforms: {', '.join(unknown)} is none of Torchreid's, which ignores it in silence; left out."
        )
    train = ["resize", *(name for name in ORDER if name in asked)]
    names = [name for name in options("transforms") if name != "library"]
    recipe = next((name for name in names if compose(f"transforms/{name}").transforms.train == train), None)
    yield Override("transforms.train", train) if recipe is None else Override("transforms", recipe)
    if "random_erase" in train:
        fill = [
            round(255 * mean * (std + 1))
            for mean, std in zip(settings["data.norm_mean"], settings["data.norm_std"], strict=True)
        ]
        yield Override("transforms.random_erase.fill", [min(max(value, 0), 255) for value in fill])
        yield Remark(
            "data.transforms: Torchreid erases after the normalisation, and so with a brighter grey than the mean that it means. "
            "Leave transforms.random_erase.fill out to have the mean."
        )


def video(settings: Settings) -> Found:
    """Frames of a tracklet."""
    if settings["data.type"] == "image":
        names = ("video.seq_len", "video.sample_method", "video.pooling_method")
        yield from idle(settings, names, "as data.type is image")
        return
    yield Override("data.seq_len", settings["video.seq_len"])
    yield Override("data.test_sampling", "all" if settings["video.sample_method"] == "all" else "even")
    if settings["video.sample_method"] == "random":
        yield Remark("video.sample_method: Torchreid tests on frames by chance too; here they are spread evenly.")
    if settings["video.sample_method"] == "evenly":
        yield Remark(
            "video.sample_method: Torchreid's frames are the first of each part, and up to seq_len - 1 at the end never count; "
            "here they are the middles of parts of the whole tracklet."
        )


def trained_video(settings: Settings) -> Found:
    """Training on tracklets: on each frame as on an image, as Torchreid does it."""
    if settings["data.type"] == "image":
        return
    method, pooling = settings["video.sample_method"], settings["video.pooling_method"]
    if method == "all":
        yield Remark(
            "video.sample_method: training clips have one length, so data.sampling=random takes video.seq_len frames."
        )
    yield Override("data.sampling", "even" if method == "evenly" else "random")
    yield Override("data.consistent", False)
    yield Override("engine", "frames")
    if settings["loss.name"] == "triplet":
        yield Remark(
            "loss.name: in Torchreid a frame's hardest positive may be of its own clip; here two frames of one clip never meet."
        )
        if pooling != "avg":
            yield Remark(
                "video.pooling_method: Torchreid's script forgets it with a triplet loss. model/temporal=frame_max would have it."
            )
    elif pooling != "avg":
        yield Override("model/temporal", "frame_max")


def tested_video(settings: Settings) -> Found:
    """Testing on tracklets: the embeddings of frames are pooled."""
    if settings["data.type"] == "video":
        pooled = settings["video.pooling_method"] != "avg" and settings["loss.name"] == "softmax"
        yield Override("model/temporal", "frame_max" if pooled else "frame_average")

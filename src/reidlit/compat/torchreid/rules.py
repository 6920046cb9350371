"""Translation rules for Torchreid settings that depend on each other.

Each rule yields overrides as (key, value), and remarks.
"""

from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from reidlit.compat.torchreid.settings import Outcome, Settings
from reidlit.config import CONFIG_DIR, options

NO_IMAGENET_WEIGHTS = ("hacnn", "mudeep")
NO_TORCHREID_WEIGHTS = (
    *("mlfn", "mobilenetv2_x1_0", "mobilenetv2_x1_4"),
    *("shufflenet", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
)
HALF = ("inceptionv4", "inceptionresnetv2", "xception")  # ImageNet weights with mean and standard deviation 0.5
NASNET = ("nasnetamobile", "nasnsetmobile")
# Torchreid applies transforms in this order, regardless of the order in its configuration.
TRANSFORMS = ("random_flip", "random_crop", "random_patch", "color_jitter", "random_erase")
DATASET_OPTIONS = {
    "market1501.use_500k_distractors": "market1501_500k",
    "cuhk03.labeled_images": "cuhk03_labeled",
    "cuhk03.classic_split": "cuhk03_classic_split",
    "data.combineall": "include_val",
    "data.split_id": "split_id",
}
SAMPLING = {
    "evenly": "Torchreid selects the first frame of each segment, reidlit the middle frame.",
    "random": "Torchreid also tests on random frames, reidlit on evenly spaced frames.",
    "all": "tests use all frames. Training clips have a fixed length: data.sampling=random selects video.seq_len frames.",
}


def model(settings: Settings) -> Iterator[Outcome]:
    """Choose the network and whether it starts from ImageNet weights."""
    name = settings["model.name"]
    if settings["projects/OSNet_AIN"] and not settings["test.evaluate"]:
        return  # engine=architecture_search selects its own network
    settings.compose(f"model/{name}")
    yield "model", name
    if settings["test.evaluate"] or not _is_pretrained(settings):
        return
    if name in NO_IMAGENET_WEIGHTS:
        yield f"model.pretrained: {name} has no ImageNet weights; Torchreid uses random weights without a warning."
    elif name in NO_TORCHREID_WEIGHTS:
        yield f"model.pretrained: Torchreid has no weights for {name}; add model.pretrained=true for ImageNet weights."
    else:
        yield "model.pretrained", True
    if name.startswith("resnet50_ibn"):
        yield f"model.pretrained: Torchreid loads matching weights of ResNet-50, reidlit those published for {name}."


def _is_pretrained(settings: Settings) -> bool:
    return bool(settings["model.pretrained"] and not settings["model.load_weights"] and not settings["model.resume"])


def normalization(settings: Settings) -> Iterator[Outcome]:
    """Set the mean and standard deviation of pixels if they differ from those of the weights."""
    name, is_pretrained = settings["model.name"], _is_pretrained(settings)
    if is_pretrained and name in NASNET:
        yield f"data.norm_mean, data.norm_std: {name} uses 0.5, as its ImageNet weights require."
    elif (is_pretrained and name in HALF) or settings.changed & {"data.norm_mean", "data.norm_std"}:
        yield "model.mean", settings["data.norm_mean"]
        yield "model.std", settings["data.norm_std"]
    if is_pretrained and name in HALF:
        yield f"data.norm_mean, data.norm_std: {name} was trained with 0.5; remove model.mean and model.std to use 0.5."


def weights(settings: Settings) -> Iterator[Outcome]:
    """Choose the initial or tested weights; projects/DML has separate files for its two networks."""
    is_test = settings["test.evaluate"]
    network = 2 if is_test and settings["model.deploy"] == "model2" else 1
    names = ("model.load_weights", "model.resume", f"model.load_weights{network}", f"model.resume{network}")
    files = [settings[name] for name in names if settings[name]]
    if files:
        yield "weights", files[-1]  # Torchreid loads later files over earlier ones
    elif is_test:
        yield "model.load_weights is empty, so Torchreid tests ImageNet or random weights: add weights= or ckpt_path=."
    if is_test and settings["model.deploy"] == "both":
        yield "model.deploy: to test both networks, use engine.ensemble=true with a checkpoint of engine=mutual."
    if settings["model.resume"] and not is_test:
        yield "model.resume: Torchreid checkpoints provide only weights; use ckpt_path=last to resume a reidlit run."


def datasets(settings: Settings) -> Iterator[Outcome]:
    """Choose one dataset, or data=multi with several."""
    targets = settings["data.targets"]
    sources = targets if settings["test.evaluate"] else settings["data.sources"]
    changes = {name: _dataset_options(name, settings) for name in (*sources, *targets)}
    if len(changes) == len(sources) == 1:
        yield "data", sources[0]
        yield from ((f"data.{option}", value) for option, value in changes[sources[0]].items())
    else:
        entries = {name: {name: changed} if changed else name for name, changed in changes.items()}
        yield "data", "multi_video" if settings["data.type"] == "video" else "multi"
        yield "data.sources", [entries[name] for name in sources]
        if sources != targets:
            yield "data.targets", [entries[name] for name in targets]
    if sources != targets and "data.targets" not in settings.explicit:
        yield f"data.targets is not set, so Torchreid tests on its default, {', '.join(targets)}."
    used = {"include_val"}.union(*changes.values())
    for name in sorted(settings.changed & DATASET_OPTIONS.keys()):
        if DATASET_OPTIONS[name] not in used:
            yield f"{name}: not used by Torchreid, because {', '.join(changes)} has no such option."


def _dataset_options(name: str, settings: Settings) -> dict[str, Any]:
    config = settings.compose(f"data/{name}").data
    data_type = "video" if "seq_len" in config else "image"
    if data_type != settings["data.type"]:
        raise ValueError(f"data.type={settings['data.type']} does not match {name}: set data.type={data_type}.")
    return {key: settings[setting] for setting, key in DATASET_OPTIONS.items() if settings[setting] and key in config}


def data_root(settings: Settings) -> Iterator[Outcome]:
    """Set the folder of the datasets if the user set it."""
    if "data.root" in settings.explicit:
        yield "data.root", settings["data.root"]
    else:
        yield "data.root: reidlit searches $REIDLIT_DATA or data; Torchreid's default is data.root=reid-data."


def transforms(settings: Settings) -> Iterator[Outcome]:
    """Choose the training transforms."""
    names = [name.lower() for name in settings["data.transforms"] if name]
    if unknown := [name for name in names if name not in TRANSFORMS]:
        yield f"data.transforms: {', '.join(unknown)} is skipped, because Torchreid ignores it."
    train = ["resize", *(name for name in TRANSFORMS if name in names)]
    recipes = [name for name in options("transforms") if name != "library"]
    matching_recipes = [
        name for name in recipes if OmegaConf.load(CONFIG_DIR / "transforms" / f"{name}.yaml").train == train
    ]
    yield ("transforms", matching_recipes[0]) if matching_recipes else ("transforms.train", train)
    if "random_erase" in train:
        statistics = zip(settings["data.norm_mean"], settings["data.norm_std"], strict=True)
        fill = [round(255 * mean * (std + 1)) for mean, std in statistics]
        yield "transforms.random_erase.fill", [min(max(value, 0), 255) for value in fill]
        yield "data.transforms: Torchreid erases with a too bright gray; remove transforms.random_erase.fill to fix it."


def batch_size(settings: Settings) -> Iterator[Outcome]:
    """Set a batch size that fits the sampler."""
    sampler, size = settings["sampler.train_sampler"], settings["train.batch_size"]
    images = settings["sampler.num_instances"]
    if sampler == "RandomIdentitySampler" and 0 < images <= size and size % images:
        yield f"train.batch_size={size} is not a multiple of sampler.num_instances={images}; reidlit rounds it down."
        size -= size % images
    yield "data.batch_size", size
    if sampler == "RandomSampler" and settings["loss.name"] == "triplet" and settings["loss.triplet.weight_t"]:
        yield "sampler.train_sampler: a triplet loss cannot learn with RandomSampler; remove sampler=random to fix it."


def loss(settings: Settings) -> Iterator[Outcome]:
    """Choose the losses and their weights."""
    triplet, softmax = settings["loss.triplet.weight_t"], settings["loss.triplet.weight_x"]
    if settings["loss.name"] == "softmax":
        triplet, softmax = 0.0, 1.0
    if not triplet and not softmax:
        raise ValueError(
            "loss.triplet.weight_t=0 and loss.triplet.weight_x=0 disable all losses: set one of them above 0."
        )
    if not softmax and settings["train.fixbase_epoch"]:
        raise ValueError(
            f"train.fixbase_epoch={settings['train.fixbase_epoch']} requires loss.triplet.weight_x > 0, because the "
            "triplet loss does not train the classifier: change one of them."
        )
    yield "loss", "softmax_triplet" if triplet and softmax else "triplet" if triplet else "softmax"
    if softmax:
        yield "loss.losses.softmax.label_smoothing", 0.1 if settings["loss.softmax.label_smooth"] else 0.0
        yield "loss.weights.softmax", softmax
    elif "loss.softmax.label_smooth" in settings.changed:
        yield "loss.softmax.label_smooth: not used by Torchreid, because loss.triplet.weight_x is 0."
    if triplet:
        yield "loss.losses.triplet.margin", settings["loss.triplet.margin"]
        yield "loss.weights.triplet", triplet


def frames(settings: Settings) -> Iterator[Outcome]:
    """Train on frames as on images, like Torchreid, and pool the embeddings of frames in tests."""
    method, is_triplet = settings["video.sample_method"], settings["loss.name"] == "triplet"
    is_max = settings["video.pooling_method"] != "avg"
    yield f"video.sample_method={method}: {SAMPLING[method]}"
    yield "data.test_sampling", "all" if method == "all" else "even"
    if is_max and is_triplet:
        yield "video.pooling_method: not used by Torchreid with a triplet loss; add model/temporal=frame_max to use it."
    if not settings["test.evaluate"]:
        yield "data.sampling", "even" if method == "evenly" else "random"
        yield "data.consistent", False
        yield "engine", "frames"
    if is_max and not is_triplet:
        yield "model/temporal", "frame_max"
    elif settings["test.evaluate"]:
        yield "model/temporal", "frame_average"
    if is_triplet and not settings["test.evaluate"]:
        yield "loss.name: in Torchreid the hardest positive of a frame may be from its own clip, in reidlit never."


def step_size(settings: Settings) -> Iterator[Outcome]:
    """Set the epochs at which the learning rate decreases; single_step uses only the last one."""
    steps = settings["train.stepsize"]
    if settings["train.lr_scheduler"] == "multi_step":
        yield "scheduler.milestones", steps
    else:
        yield "scheduler.step_size", steps[-1]
        if len(steps) > 1:
            yield f"train.stepsize={steps}: single_step uses only the last value; use scheduler=multi_step for all."


def open_layers(settings: Settings) -> Iterator[Outcome]:
    """Train only some layers during the first epochs."""
    name, layers = settings["model.name"], _layers(settings, "train.open_layers")
    yield "callbacks.freeze.open_layers", layers
    if name.endswith("_fc512") and "neck" not in layers and not settings["model.load_weights"]:
        yield "train.open_layers: fc stays random; set callbacks.freeze.open_layers=[neck,classifier] to train it too."


def new_layers(settings: Settings) -> Iterator[Outcome]:
    """Choose the layers that train at the full learning rate."""
    yield "optimizer.new_layers", _layers(settings, "train.new_layers")


def _layers(settings: Settings, setting: str) -> list[str]:
    """Return the reidlit names of the layers in a setting."""
    from reidlit.models.build import build_model  # imported here because few configurations need a network
    from reidlit.models.weights import reidlit_name, renames_of

    names = {"classifier": "classifier", "fc": "neck"}
    if other := [layer for layer in settings[setting] if layer not in names]:
        network = build_model(settings["model.name"], num_classes=1)
        renames, tensors = renames_of(network), set(network.state_dict())
        names |= {layer: reidlit_name(f"{layer}.", renames, tensors).removesuffix(".") for layer in other}
        if missing := [layer for layer in other if names[layer] not in dict(network.named_modules())]:
            raise ValueError(
                f"{setting} contains unknown layers {missing}: model.name={settings['model.name']} does not have them."
            )
    return [names[layer] for layer in settings[setting]]


def ranked_lists(settings: Settings) -> Iterator[Outcome]:
    """Render the ranked list of each query."""
    if settings["test.visrank"] and settings["test.evaluate"]:
        yield "callbacks.ranked_lists.choose", "all"
        yield "callbacks.ranked_lists.each", True
        yield "callbacks.ranked_lists.top_k", settings["test.visrank_topk"]
        yield "eval.top_k", max(50, settings["test.visrank_topk"])

"""Rules for the network, its weights, and which of its layers are trained how."""

from collections.abc import Sequence

from hydra import compose
from hydra.errors import MissingConfigException

from reidlit.compat.torchreid.result import Found, Override, Remark, idle
from reidlit.compat.torchreid.settings import Settings

# Where model.pretrained=True loads nothing in Torchreid, with a warning or without.
UNTRAINED_THERE = (
    "mobilenetv2_x1_0",
    "mobilenetv2_x1_4",
    "shufflenet",
    "mlfn",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
)
WITHOUT_WEIGHTS = ("hacnn", "mudeep")
IBN = ("resnet50_ibn_a", "resnet50_ibn_b")
HALF = ("inceptionv4", "inceptionresnetv2", "xception")  # trained with a mean and a deviation of 0.5
NASNET = ("nasnetamobile", "nasnsetmobile")
LAYERS = {"classifier": "classifier", "fc": "neck"}


def model(settings: Settings) -> Found:
    """The network, and the weights that it starts from."""
    name = known(settings["model.name"])
    yield Override("model", name)
    if settings["model.load_weights"] or settings["model.resume"] or not settings["model.pretrained"]:
        return  # a weight file replaces those of ImageNet
    if name in WITHOUT_WEIGHTS:
        yield Remark(f"model.pretrained: no ImageNet weights exist for {name}; Torchreid says nothing of it.")
    elif name in UNTRAINED_THERE:
        yield Remark(
            f"model.pretrained: Torchreid starts {name} from random weights all the same. model.pretrained=true starts from "
            "those of ImageNet."
        )
    else:
        yield Override("model.pretrained", True)
        if name in IBN:
            yield Remark(
                f"model.pretrained: Torchreid loads what fits of a plain ResNet-50, here it is the weights of {name}'s authors."
            )


def normalisation(settings: Settings) -> Found:
    """Mean and deviation of the pixels."""
    name, mean, std = settings["model.name"], settings["data.norm_mean"], settings["data.norm_std"]
    fetched = settings["model.pretrained"] and not settings["model.load_weights"] and not settings["model.resume"]
    if fetched and name in NASNET:
        yield Remark(f"data.norm_mean, data.norm_std: {name} has the 0.5 that its ImageNet weights were trained with.")
    elif settings.changed("data.norm_mean") or settings.changed("data.norm_std") or (fetched and name in HALF):
        yield Override("model.mean", mean)
        yield Override("model.std", std)
        if fetched and name in HALF:
            yield Remark(
                f"data.norm_mean, data.norm_std: the ImageNet weights of {name} were trained with 0.5. Leave model.mean and "
                "model.std out to have that."
            )


def weights(settings: Settings) -> Found:
    """The file to start from."""
    for name in ("model.load_weights", "model.resume"):  # the later is loaded over the earlier
        if settings[name]:
            yield Override("weights", settings[name])
    if settings["model.resume"]:
        yield Remark(
            "model.resume: a checkpoint of Torchreid gives its weights only; optimiser, schedule and epoch start anew. "
            "Checkpoints of reidlit train go on with ckpt_path=last."
        )
    yield from idle(settings, ["train.start_epoch"], "unless a run is resumed")


def tested_weights(settings: Settings) -> Found:
    """The file to test."""
    yield Override("model", known(settings["model.name"]))
    number = "2" if settings["model.deploy"] == "model2" else "1"  # of projects/DML
    names = ("model.resume", "model.load_weights", f"model.resume{number}", f"model.load_weights{number}")
    file = next((settings[name] for name in names if settings[name]), None)
    if settings["model.deploy"] == "both":
        yield Remark(
            "model.deploy: two weight files are not tested as one. A checkpoint of engine=mutual is, with engine.ensemble=true."
        )
    if file:
        yield Override("weights", file)
    else:
        yield Remark(
            "model.load_weights is empty: Torchreid would test what ImageNet or chance gives. Add weights=<file> or ckpt_path=<file>."
        )


def freeze(settings: Settings) -> Found:
    """Two-step training."""
    name, epochs = settings["model.name"], settings["train.fixbase_epoch"]
    if not epochs:
        yield from idle(settings, ["train.open_layers"], "as train.fixbase_epoch is 0")
        return
    opened = ours(name, settings["train.open_layers"], "train.open_layers")
    yield Override("callbacks.freeze.epochs", epochs)
    yield Override("callbacks.freeze.open_layers", opened)
    if name.endswith("_fc512") and "neck" not in opened and not settings["model.load_weights"]:
        yield Remark(
            f"train.open_layers: the new layer fc of {name} stays at its random weights for {epochs} epochs. "
            "callbacks.freeze.open_layers=[neck,classifier] trains it too."
        )


def staged(settings: Settings) -> Found:
    """Rates of new layers and of the others."""
    if not settings["train.staged_lr"]:
        yield from idle(settings, ["train.new_layers", "train.base_lr_mult"], "as train.staged_lr is False")
        return
    yield Override(
        "optimizer.new_layers", ours(settings["model.name"], settings["train.new_layers"], "train.new_layers")
    )
    yield Override("optimizer.base_lr_mult", settings["train.base_lr_mult"])


def known(name: str) -> str:
    """The name of a network, as it is.

    Raises:
        ValueError: if it is no option of model.
    """
    try:
        compose(f"model/{name}")
    except MissingConfigException as error:
        raise ValueError(
            f"model.name={name} is no option of model; reidlit train --help lists them. One of your own needs a file and a "
            "YAML here (docs/own-model.md); then add --config-dir <folder> to this command."
        ) from error
    return name


def ours(model_name: str, layers: Sequence[str], argument: str) -> list[str]:
    """Our names of the parts of a network that Torchreid calls `layers`.

    Raises:
        ValueError: if the network has no such part.
    """
    found = [LAYERS.get(layer) or _part(model_name, layer) for layer in layers]
    if None in found:
        missing = [layer for layer, part in zip(layers, found, strict=True) if part is None]
        raise ValueError(f"{argument}={list(layers)}: model.name={model_name} has no part {missing}.")
    return [part for part in found if part is not None]


def _part(model_name: str, layer: str) -> str | None:
    from reidlit.models.build import build_model  # here, as only rare settings need a network
    from reidlit.models.weights import own_name, renames_of

    network = build_model(model_name, num_classes=1)
    name = own_name(f"{layer}.", renames_of(network), set(network.state_dict())).removesuffix(".")
    return name if name in dict(network.named_modules()) else None


def mutual(settings: Settings) -> Found:
    """Deep mutual learning, of projects/DML."""
    yield Override("engine", "mutual")
    yield Override("engine.weight", settings["loss.dml.weight_ml"])
    yield Remark(
        "projects/DML: Torchreid trains two equal copies, which stay equal; here the two networks start from other random numbers."
    )
    for name in ("model.load_weights1", "model.resume1"):
        if settings[name]:
            yield Override("weights", settings[name])
    if settings["model.load_weights2"] or settings["model.resume2"]:
        yield Remark(
            "model.load_weights2, model.resume2: the second network starts from weights= too, with a classifier of its own."
        )
    if settings["model.deploy"] == "both":
        yield Override("engine.ensemble", True)
    elif settings["model.deploy"] == "model2":
        yield Remark("model.deploy: both networks are alike, and `model` is the one that is tested.")


def search(settings: Settings) -> Found:
    """The architecture search, of projects/OSNet_AIN."""
    yield Override("engine", "architecture_search")
    yield Override("model", "osnet_ain_search")
    yield Override("model.pretrained", False)
    yield Override("engine.temperature", settings["nas.init_lmda"])
    yield Override("engine.min_temperature", settings["nas.min_lmda"])
    yield Override("engine.temperature_decay", 1.0 if settings["nas.fixed_lmda"] else settings["nas.lmda_decay_rate"])
    yield Override("engine.decay_every", settings["nas.lmda_decay_step"])
    yield Override("engine.samples", settings["nas.mc_iter"])
    yield Override("test", False)
    if settings.changed("nas.mc_iter"):
        yield Remark(
            "nas.mc_iter: Torchreid takes that many steps on a batch; here the gradient is the mean over as many draws."
        )


def activation_maps(settings: Settings) -> Found:
    """Pictures of where the network looks."""
    if settings["test.visactmap"]:
        yield Remark("test.visactmap: reidlit visualize draws where a network looks.")

"""Rules for the losses, the optimiser, the schedule, and the run itself."""

from reidlit.compat.torchreid.result import Found, Override, Remark, idle
from reidlit.compat.torchreid.settings import MUTUAL, Settings

SCHEDULES = {"single_step": "step", "multi_step": "multi_step", "cosine": "cosine"}
ADAMS = ("adam", "amsgrad", "radam")
OF_SGD = ("sgd.momentum", "sgd.dampening", "sgd.nesterov")
OF_ADAM = ("adam.beta1", "adam.beta2")


def loss(settings: Settings) -> Found:
    """The losses and their weights.

    Raises:
        ValueError: if Torchreid would refuse them.
    """
    mutual = not settings.given.isdisjoint(MUTUAL)
    named = "loss.name" not in settings.given and mutual  # by default the project has both losses
    triplet, softmax = _weights(settings, mutual)
    if settings["loss.name"] == "softmax" and not named:
        triplet, softmax = 0.0, 1.0
        names = ("loss.triplet.margin", "loss.triplet.weight_t", "loss.triplet.weight_x")
        yield from idle(settings, names, "as loss.name is softmax")
    if not triplet and not softmax:
        raise ValueError("loss.triplet.weight_t=0 and loss.triplet.weight_x=0 leave nothing to learn from.")
    if not softmax and settings["train.fixbase_epoch"]:
        raise ValueError(
            f"train.fixbase_epoch={settings['train.fixbase_epoch']} with loss.triplet.weight_x=0: the triplet loss does not "
            "train the classifier, so Torchreid refuses it. Set one of them otherwise."
        )
    yield Override("loss", "softmax_triplet" if triplet and softmax else "triplet" if triplet else "softmax")
    if softmax:
        yield Override("loss.losses.softmax.label_smoothing", 0.1 if settings["loss.softmax.label_smooth"] else 0.0)
        yield Override("loss.weights.softmax", softmax)
    else:
        yield from idle(settings, ["loss.softmax.label_smooth"], "as loss.triplet.weight_x is 0")
    if triplet:
        yield Override("loss.losses.triplet.margin", settings["loss.triplet.margin"])
        yield Override("loss.weights.triplet", triplet)


def _weights(settings: Settings, mutual: bool) -> tuple[float, float]:
    """Of the triplet loss and of cross entropy; the mutual project has defaults of its own."""
    names = {"loss.triplet.weight_t": 0.5, "loss.triplet.weight_x": 1.0}
    first, second = (
        settings[name] if name in settings.given or not mutual else of_project for name, of_project in names.items()
    )
    return first, second


def optimizer(settings: Settings) -> Found:
    """The optimiser."""
    name = settings["train.optim"]
    yield Override("optimizer", name)
    yield Override("optimizer.lr", settings["train.lr"])
    yield Override("optimizer.weight_decay", settings["train.weight_decay"])
    used: tuple[str, ...] = OF_ADAM
    if name in ADAMS:
        yield Override("optimizer.betas", [settings[beta] for beta in OF_ADAM])
    elif name == "sgd":
        used = OF_SGD
        for key in OF_SGD:
            yield Override(f"optimizer.{key.partition('.')[2]}", settings[key])
    else:
        used = ("sgd.momentum", "rmsprop.alpha")
        yield Override("optimizer.momentum", settings["sgd.momentum"])
        yield Override("optimizer.alpha", settings["rmsprop.alpha"])
    others = [key for key in (*OF_SGD, "rmsprop.alpha", *OF_ADAM) if key not in used]
    yield from idle(settings, others, f"as train.optim is {name}")


def schedule(settings: Settings) -> Found:
    """How the rate falls."""
    name, steps = settings["train.lr_scheduler"], settings["train.stepsize"]
    yield Override("scheduler", SCHEDULES[name])
    if name == "cosine":
        yield from idle(settings, ["train.stepsize", "train.gamma"], "as train.lr_scheduler is cosine")
        return
    if name == "single_step":
        yield Override("scheduler.step_size", steps[-1])
        if len(steps) > 1:
            yield Remark(
                f"train.stepsize={steps}: with single_step Torchreid takes the last, every {steps[-1]} epochs. If milestones "
                f"were meant: scheduler=multi_step scheduler.milestones={steps}."
            )
    else:
        yield Override("scheduler.milestones", steps)
    yield Override("scheduler.gamma", settings["train.gamma"])


def run(settings: Settings) -> Found:
    """Epochs, seed, logs."""
    yield Override("trainer.max_epochs", settings["train.max_epoch"])
    yield Override("seed", settings["train.seed"])
    yield Override("trainer.log_every_n_steps", settings["train.print_freq"])


def place(settings: Settings) -> Found:
    """The device, and where the run's files go."""
    if not settings["use_gpu"]:
        yield Override("trainer", "cpu")
    if "data.save_dir" in settings.given:
        yield Override("hydra.run.dir", settings["data.save_dir"], always=True)

"""Torchreid's settings: its defaults, and what a YAML file and the keys and values after it change."""

import ast
import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

# Of Torchreid 1.4.0, scripts/main.py. A YAML states only what differs.
DEFAULTS: dict[str, Any] = {
    "model.name": "resnet50",
    "model.pretrained": True,
    "model.load_weights": "",
    "model.resume": "",
    "data.type": "image",
    "data.root": "reid-data",
    "data.sources": ["market1501"],
    "data.targets": ["market1501"],
    "data.workers": 4,
    "data.split_id": 0,
    "data.height": 256,
    "data.width": 128,
    "data.combineall": False,
    "data.load_train_targets": False,
    "data.transforms": ["random_flip"],
    "data.k_tfm": 1,
    "data.norm_mean": [0.485, 0.456, 0.406],
    "data.norm_std": [0.229, 0.224, 0.225],
    "data.save_dir": "log",
    "market1501.use_500k_distractors": False,
    "cuhk03.labeled_images": False,
    "cuhk03.classic_split": False,
    "cuhk03.use_metric_cuhk03": False,
    "sampler.train_sampler": "RandomSampler",
    "sampler.train_sampler_t": "RandomSampler",
    "sampler.num_instances": 4,
    "sampler.num_cams": 1,
    "sampler.num_datasets": 1,
    "video.seq_len": 15,
    "video.sample_method": "evenly",
    "video.pooling_method": "avg",
    "train.optim": "adam",
    "train.lr": 3e-4,
    "train.weight_decay": 5e-4,
    "train.max_epoch": 60,
    "train.start_epoch": 0,
    "train.batch_size": 32,
    "train.fixbase_epoch": 0,
    "train.open_layers": ["classifier"],
    "train.staged_lr": False,
    "train.new_layers": ["classifier"],
    "train.base_lr_mult": 0.1,
    "train.lr_scheduler": "single_step",
    "train.stepsize": [20],
    "train.gamma": 0.1,
    "train.print_freq": 20,
    "train.seed": 1,
    "sgd.momentum": 0.9,
    "sgd.dampening": 0.0,
    "sgd.nesterov": False,
    "rmsprop.alpha": 0.99,
    "adam.beta1": 0.9,
    "adam.beta2": 0.999,
    "loss.name": "softmax",
    "loss.softmax.label_smooth": True,
    "loss.triplet.margin": 0.3,
    "loss.triplet.weight_t": 1.0,
    "loss.triplet.weight_x": 0.0,
    "test.batch_size": 100,
    "test.dist_metric": "euclidean",
    "test.normalize_feature": False,
    "test.ranks": [1, 5, 10, 20],
    "test.evaluate": False,
    "test.eval_freq": -1,
    "test.start_eval": 0,
    "test.rerank": False,
    "test.visrank": False,
    "test.visrank_topk": 10,
    "use_gpu": True,  # if there is one
}
# What only its projects have: mutual learning (DML), and the search for OSNet-AIN with its activation maps.
MUTUAL: dict[str, Any] = {
    "model.load_weights1": "",
    "model.load_weights2": "",
    "model.resume1": "",
    "model.resume2": "",
    "model.deploy": "model1",
    "loss.dml.weight_ml": 1.0,
}
SEARCH: dict[str, Any] = {
    "nas.mc_iter": 1,
    "nas.init_lmda": 10.0,
    "nas.min_lmda": 1.0,
    "nas.lmda_decay_step": 20,
    "nas.lmda_decay_rate": 0.5,
    "nas.fixed_lmda": False,
}
MAPS: dict[str, Any] = {"test.visactmap": False}
KNOWN = {**DEFAULTS, **MUTUAL, **SEARCH, **MAPS}
SECTIONS = {name.rpartition(".")[0][:end] for name in KNOWN for end in (None, name.find("."))} - {""}
ALLOWED = {
    "data.type": ("image", "video"),
    "sampler.train_sampler": (
        "RandomSampler",
        "SequentialSampler",
        "RandomIdentitySampler",
        "RandomDomainSampler",
        "RandomDatasetSampler",
    ),
    "video.sample_method": ("evenly", "random", "all"),
    "train.optim": ("adam", "amsgrad", "sgd", "rmsprop", "radam"),
    "train.lr_scheduler": ("single_step", "multi_step", "cosine"),
    "loss.name": ("softmax", "triplet"),
    "test.dist_metric": ("euclidean", "cosine"),
    "model.deploy": ("model1", "model2", "both"),
}
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text in one line, without ${"}


@dataclass(frozen=True)
class Settings:
    """What Torchreid would run with.

    Attributes:
        values: Every setting by its dotted name.
        given: Those that are stated, in the file or after it.
    """

    values: Mapping[str, Any]
    given: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def changed(self, name: str) -> bool:
        """Whether it differs from Torchreid's default."""
        return bool(self.values[name] != KNOWN[name])

    def of(self, names: Iterable[str]) -> "Settings":
        """These settings only."""
        return Settings({name: self.values[name] for name in names}, self.given.intersection(names))


def read_settings(arguments: Sequence[str]) -> Settings:
    """The settings of a YAML file and of the keys and values after it, of which the later count.

    Args:
        arguments: a file, then `model.name`, `resnet50` and so on, in pairs; or only pairs.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: if it is no such file, a name is none of Torchreid's, or a value does not fit its name.
    """
    if not arguments:
        raise ValueError("give a YAML file of Torchreid: reidlit migrate im_osnet_x1_0.yaml model.name resnet50")
    alone = arguments[0] in KNOWN
    pairs = arguments if alone else arguments[1:]
    if len(pairs) % 2:
        raise ValueError(f"{pairs[-1]} has no value: after the file come keys and values, such as model.name resnet50.")
    stated = {} if alone else _read_file(arguments[0])
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        if name not in KNOWN:
            raise _unknown(name)
        stated[name] = value
    fitting = {name: _fitting(name, value) for name, value in stated.items()}
    return Settings({**KNOWN, **fitting}, frozenset(fitting))


def _read_file(name: str) -> dict[str, Any]:
    file = Path(name).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{name} does not exist: give a YAML file of Torchreid.")
    try:
        # Plain values only, nothing that a tag could build; what recurs by an alias is not multiplied.
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no YAML file of plain values: {' '.join(str(error).split())}") from error
    if content is None:  # an empty file changes nothing
        return {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{name} holds no settings by name, as Torchreid's configs do.")
    return dict(_flat(content, ""))


def _flat(node: Mapping[Any, Any], section: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{section}{key}"
        if name in KNOWN:
            yield name, value
        elif name not in SECTIONS:
            raise _unknown(name)
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            raise ValueError(f"{name}={reprlib.repr(value)} must hold settings by name.")


def _unknown(name: str) -> ValueError:
    near = get_close_matches(name, KNOWN, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    return ValueError(
        f"{name!r} is no setting of Torchreid's scripts/main.py.{meant} A setting of your own has no counterpart: leave it out."
    )


def _fitting(name: str, value: Any) -> Any:
    """The value as the type of the default, which a text may also write as Python does, as in Torchreid.

    Raises:
        ValueError: if it cannot be.
    """
    default = KNOWN[name]
    several = isinstance(default, list)
    kind = type(default[0] if several else default)
    if isinstance(value, str) and (several or kind is not str):
        value = _literal(value, several)
    if several:
        items = value if isinstance(value, list | tuple) else [value]
        found: Any = [_of_kind(item, kind) for item in items]
        lengths = {float: (len(default),), str: range(999)}.get(kind, range(1, 999))
        fits = None not in found and len(found) in lengths
    else:
        found = _of_kind(value, kind)
        fits = found is not None
    if not fits:
        what = f"a list, each {WORDS[kind]}" if several else WORDS[kind]
        raise ValueError(f"{name}={reprlib.repr(value)} must be {what}.")
    if name in ALLOWED and found not in ALLOWED[name]:
        raise ValueError(f"{name}={found} must be one of {', '.join(ALLOWED[name])}.")
    return found


def _literal(text: str, several: bool) -> Any:
    """`0.1`, `True`, `['a', 'b']`; and for a list `a,b`."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text.split(",") if several else text


def _of_kind(value: Any, kind: type) -> Any:
    """The value, or None if it is of another kind."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if kind is str and isinstance(value, str):
        # What is printed must stay in its line, and Hydra would replace ${...}.
        return value if value.isprintable() and "${" not in value else None
    return value if type(value) is kind else None

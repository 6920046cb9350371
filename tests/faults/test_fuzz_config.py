"""Any value of any setting: `reidlit train` reaches the training or explains the error in one message."""

import os

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from helpers.cli_settings import TRAIN
from reidlit.commands import train
from reidlit.config import CONFIG_DIR

pytestmark = pytest.mark.timeout(7200)  # the long form
LONG = bool(os.environ.get("REIDLIT_FAULTS"))
START = [*TRAIN, "logger=csv", "hydra.run.dir=run"]
# Sizes stay small, because a huge network or dataset is valid but does not fit into memory.
VALUES = [
    *("null", "true", "false", "-1", "0", "1", "2", "3", "0.5", "-0.5", "nan", "inf", "-inf", "1e300", "999999999999999999"),
    *("''", "word", "'two words'", "'ünï'", "'%s'", "'{x}'", "'${nowhere}'", "'${model}'", "???"),
    *("[]", "[1]", "[a,b]", "[null]", "[[1]]", "{}", "{a:1}", "{_target_:os.getcwd}", "/", "~", "a=b", "'a\\nb'"),
]  # fmt: skip
SIZES = (
    "num_identities",
    "num_test",
    "num_cameras",
    "shots",
    "image_height",
    "image_width",
    "height",
    "width",
    "k_tfm",
)
GROUPS = {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}


def settings_of(node, prefix=""):
    """Yield the names of all settings."""
    for key in node:
        raw = node._get_node(key)
        name = f"{prefix}{key}"
        if isinstance(raw, DictConfig) and not raw._is_none():
            yield from settings_of(raw, f"{name}.")
        if "." in name or name not in GROUPS:
            yield name


def keys():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        names = settings_of(compose("train", TRAIN))
        excluded = ("logger", "data.root", "data.pack_dir")  # settings of output folders are not tried
        return [key for key in names if not key.startswith(excluded)]


KEYS = keys()


def is_modest(override):
    key, _, value = override.partition("=")
    return not (key.rpartition(".")[2] in SIZES and (value.startswith("999") or value == "1e300"))


overrides = st.builds(
    "{}{}={}".format, st.sampled_from(["", "", "", "+", "++"]), st.sampled_from(KEYS), st.sampled_from(VALUES)
)
removals = st.builds("~{}".format, st.sampled_from(KEYS))
typos = st.builds(
    lambda key, at, c: f"{key[:at]}{c}{key[at:]}=1", st.sampled_from(KEYS), st.integers(0, 40), st.sampled_from("x._%")
)


class TrainingReached(BaseException):
    """Signal that the Trainer and the module were built and training would start."""


@pytest.fixture
def start(reidlit, monkeypatch):
    """Return a function that runs `reidlit train` up to the start of training."""

    def stop(*_):
        raise TrainingReached

    monkeypatch.setattr(train, "fit", stop)

    def run(*arguments):
        try:
            return reidlit("train", *START, *arguments)
        except TrainingReached:
            return None

    return run


def test_default_settings_reach_the_training(start):
    assert start() is None
    assert len(KEYS) > 100


@settings(
    max_examples=1500 if LONG else 12,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    given_settings=st.lists(
        (overrides | overrides | overrides | removals | typos).filter(is_modest), min_size=1, max_size=2
    )
)
def test_arbitrary_settings_work_or_are_explained(given_settings, start):
    result = start(*given_settings)
    if result is None:
        return
    assert result.status != 0
    assert "Traceback" not in result.err, result.err[-1500:]
    assert result.err.strip(), "the command failed without a message"
    assert len(result.err) < 6000


@pytest.mark.parametrize(
    "wrong",
    [
        "data.num_workers=two",
        "data.test_batch_size=null",
        "model.backbone.width=inf",
        "weights=nan",
        "transforms.train=3",
    ],
)
def test_value_of_wrong_type_is_named(wrong, start):
    result = start(wrong)
    assert result.status == 1
    assert result.err.startswith("reidlit train: ")
    assert wrong in result.err
    assert "HYDRA_FULL_ERROR=1" in result.err

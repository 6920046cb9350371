"""Search spaces of the Optuna sweeper, and its registration with Hydra."""

import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from reidlit.commands._optuna_sweeper import TARGET, distribution
from reidlit.config import option

APP = """
import hydra
import reidlit
from hydra.core.plugins import Plugins

@hydra.main(version_base="1.3", config_path=None)
def main(_):
    print(sorted(plugin.__module__ for plugin in Plugins.instance().discover()))

main()
"""


@pytest.mark.parametrize(
    ("override", "expected_type", "expected"),
    [
        ("a=x,y", "CategoricalDistribution", {"choices": ("x", "y")}),
        ("a=choice([1,2],x)", "CategoricalDistribution", {"choices": ("[1,2]", "x")}),
        ("a=range(1,8,3)", "IntDistribution", {"low": 1, "high": 7, "step": 3, "log": False}),
        ("a=range(0.1,0.45,0.1)", "FloatDistribution", {"low": 0.1, "high": 0.4, "step": 0.1, "log": False}),
        ("a=interval(0,1)", "FloatDistribution", {"low": 0.0, "high": 1.0, "step": None, "log": False}),
        ("a=int(interval(1,8))", "IntDistribution", {"low": 1, "high": 8, "step": 1, "log": False}),
        ("a=tag(log,interval(1e-5,1))", "FloatDistribution", {"low": 1e-5, "high": 1.0, "step": None, "log": True}),
    ],
)
def test_override_becomes_distribution(override, expected_type, expected):
    pytest.importorskip("optuna")
    result = distribution(OverridesParser.create().parse_override(override))
    assert (type(result).__name__, result._asdict()) == (expected_type, expected)


@pytest.mark.parametrize("override", ["a=tag(log,interval(0,1))", "a=range(3,1)", "a=tag(normal,interval(0,1))"])
def test_invalid_search_space_is_refused(override):
    pytest.importorskip("optuna")
    with pytest.raises(ValueError, match=r"^a=") as error:
        distribution(OverridesParser.create().parse_override(override))
    assert override in str(error.value)


def test_sweeper_is_hidden_from_other_hydra_applications(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "app.py", "hydra.run.dir=."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "hydra._internal.core_plugins.basic_sweeper" in done.stdout
    assert "reidlit" not in done.stdout


def test_sweeper_is_registered_in_reidlit(reidlit):
    result = reidlit("train", "--info", "plugins")
    assert result.status == 0, result.err
    assert "OptunaSweeper" in result.out


def test_target_of_earlier_sweeps_is_unchanged():
    assert (
        option("hydra/sweeper", "optuna")["_target_"] == TARGET == "hydra_plugins.reidlit_optuna.sweeper.OptunaSweeper"
    )

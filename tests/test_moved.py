"""Names of earlier releases still work, with a warning."""

from importlib import import_module

import pytest

from reidlit._moved import MOVED, current_name
from reidlit.spec import build, locate


@pytest.mark.parametrize("new", sorted(set(MOVED.values())))
def test_current_names_exist(new):
    module, _, attribute = new.rpartition(".")
    try:
        import_module(new)
    except ModuleNotFoundError:
        assert hasattr(import_module(module), attribute)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("reidlit.metrics.k_reciprocal.KReciprocal", "reidlit.metrics.rerank.k_reciprocal.KReciprocal"),
        ("reidlit.engine.module.ReIDModule", "reidlit.engine.reid.ReIDModule"),
        ("reidlit.losses.triplet.Triplet", "reidlit.losses.triplet.Triplet"),
    ],
)
def test_names_are_translated(old, new):
    assert current_name(old) == new
    assert locate(old) is locate(new)


def test_old_modules_are_importable_with_a_warning():
    with pytest.warns(FutureWarning, match=r"reidlit\.engine\.reid\.ReIDModule"):
        from reidlit.engine.module import ReIDModule
    assert ReIDModule is locate("reidlit.engine.reid.ReIDModule")
    with pytest.raises(ImportError):
        from reidlit.engine.module import Nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import_module("reidlit.engine.nothing")


def test_old_names_in_specs_do_not_warn(recwarn):
    step = build({"_target_": "reidlit.metrics.k_reciprocal.KReciprocal", "k1": 7})
    assert step.k1 == 7
    assert not [warning for warning in recwarn if warning.category is FutureWarning]

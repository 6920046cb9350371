"""Errors while objects are built: settings of a wrong type are named, and bugs keep their traceback."""

import pytest

from helpers.cli_settings import TRAIN
from reidlit.commands import _modules


@pytest.mark.parametrize("wrong", ["data.num_workers=two", "data.test_batch_size=null", "model.backbone.width=inf"])
def test_setting_of_wrong_type_is_named(wrong, reidlit):
    result = reidlit("train", *TRAIN, wrong)
    assert result.status == 1
    assert wrong in result.err
    assert "Traceback" not in result.err


def test_settings_of_correct_type_are_not_named(reidlit):
    result = reidlit("train", *TRAIN, "optimizer.lr=0.01", "data.num_workers=two")
    assert "data.num_workers=two" in result.err
    assert "optimizer.lr" not in result.err


def test_bug_shows_its_traceback(reidlit, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a bug")

    monkeypatch.setattr(_modules, "build", broken)
    result = reidlit("train", *[item for item in TRAIN if not item.startswith("callbacks")])
    assert result.status == 1
    assert "Traceback" in result.err
    assert "TypeError: a bug" in result.err

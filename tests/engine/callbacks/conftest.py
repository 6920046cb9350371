"""Fixtures of the tests of callbacks."""

import pytest

from helpers.tiny_training import small_data


@pytest.fixture
def data(monkeypatch, drawn):
    """Builds a prepared data module of the synthetic images."""
    monkeypatch.setenv("REIDLIT_DATA", str(drawn))
    return small_data

"""Fixtures for the tests of callbacks."""

import pytest

from helpers.tiny_training import small_data


@pytest.fixture
def data(monkeypatch, drawn):
    """Function that returns a prepared data module with synthetic images."""
    monkeypatch.setenv("REIDLIT_DATA", str(drawn))
    return small_data

"""Fixtures of the tests of callbacks."""

import pytest
import torch

from helpers.tiny_training import small_data


@pytest.fixture(autouse=True)
def _one_thread():
    """The batches are too small for two threads, which wait long for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(monkeypatch, drawn):
    """Builds a prepared data module of the synthetic images."""
    monkeypatch.setenv("REIDLIT_DATA", str(drawn))
    return small_data

"""Products that round alike wherever an embedding stands."""

import numpy as np
import pytest

from reidlit.metrics._ranking import matmul


def uneven(query, gallery, out):
    """Rounds the last bit of every other row otherwise, as some libraries do."""
    np.matmul(query, gallery.T, out=out)
    out[1::2] = np.nextafter(out[1::2], np.float32(np.inf))


@pytest.fixture(autouse=True)
def _choose_anew():
    matmul._library.cache_clear()
    yield
    matmul._library.cache_clear()


def test_the_chosen_library_rounds_alike():
    assert matmul.rounds_alike(matmul._library())


def test_another_is_chosen_where_the_place_shows(monkeypatch):
    assert not matmul.rounds_alike(uneven)
    monkeypatch.setattr(matmul, "by_numpy", uneven)
    if matmul.rounds_alike(matmul.by_torch):
        assert matmul._library() is matmul.by_torch
    monkeypatch.setattr(matmul, "by_torch", uneven)
    matmul._library.cache_clear()
    assert matmul._library() is uneven  # none is exact, so the faster


@pytest.mark.parametrize("multiply", [matmul.by_numpy, matmul.by_torch])
def test_both_libraries_multiply(multiply):
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((size, 64), np.float32) for size in (matmul.ROWS, matmul.least_columns(64)))
    out = np.empty((len(query), len(gallery)), np.float32)
    multiply(query, gallery, out)
    np.testing.assert_allclose(out, query.astype(np.float64) @ gallery.T.astype(np.float64), atol=1e-4)

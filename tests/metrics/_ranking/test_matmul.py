"""Matrix products with reproducible rounding."""

import numpy as np
import pytest

from reidlit.metrics._ranking import matmul


def multiply_unevenly(query, gallery, out):
    """Multiply with another last bit in every second row, as some libraries do."""
    np.matmul(query, gallery.T, out=out)
    out[1::2] = np.nextafter(out[1::2], np.float32(np.inf))


@pytest.fixture(autouse=True)
def _reset_selection():
    matmul._library.cache_clear()
    yield
    matmul._library.cache_clear()


def test_selected_library_rounds_reproducibly():
    assert matmul.rounds_alike(matmul._library())


def test_library_with_position_dependent_rounding_is_not_selected(monkeypatch):
    assert not matmul.rounds_alike(multiply_unevenly)
    monkeypatch.setattr(matmul, "by_numpy", multiply_unevenly)
    if matmul.rounds_alike(matmul.by_torch):
        assert matmul._library() is matmul.by_torch
    monkeypatch.setattr(matmul, "by_torch", multiply_unevenly)
    matmul._library.cache_clear()
    assert matmul._library() is multiply_unevenly  # neither rounds reproducibly, so the faster one


@pytest.mark.parametrize("multiply", [matmul.by_numpy, matmul.by_torch])
def test_both_libraries_compute_the_product(multiply):
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((size, 64), np.float32) for size in (matmul.ROWS, matmul.least_columns(64)))
    out = np.empty((len(query), len(gallery)), np.float32)
    multiply(query, gallery, out)
    np.testing.assert_allclose(out, query.astype(np.float64) @ gallery.T.astype(np.float64), atol=1e-4)

"""Numba kernels and tiled distances behind `reidlit.evaluate`, `nearest` and re-ranking."""

"""Hydra configuration of reidlit, reachable as pkg://reidlit.conf."""

"""Plots, image overlays and the report page."""

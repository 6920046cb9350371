"""Folders and results of runs: what a run writes and how it is read."""

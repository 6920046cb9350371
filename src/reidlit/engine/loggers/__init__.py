"""Loggers for CSV, TensorBoard and W&B."""

from reidlit.engine.loggers.factory import csv_logger, finish, wandb_logger

__all__ = ["csv_logger", "finish", "wandb_logger"]

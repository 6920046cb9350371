"""CSV logger that loses no row when the process is killed."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities import rank_zero_only

from reidlit.files import atomic_path


class CSVLog(CSVLogger):
    """CSV logger with an atomic header, and rows that can be written before Lightning logs them.

    Lightning logs the metrics of a step after the checkpoint of the step. If the process is killed between them, a resumed run
    does not repeat the step, and its row is missing. `LogBeforeCheckpoint` therefore writes the row first with `log_early`.
    """

    def __init__(self, save_dir: str, name: str, version: str) -> None:
        super().__init__(save_dir, name, version)
        self._early: set[str] = set()

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """Writer of the file."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return self._experiment  # type: ignore[return-value]

    @rank_zero_only
    def log_early(self, metrics: Mapping[str, float], step: int) -> None:
        """Write a row that Lightning is about to log, and ignore it then."""
        row = _identity(metrics, step)
        if metrics and row not in self._early:
            super().log_metrics(dict(metrics), step)
            self._early.add(row)
        self.save()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
        """Add a row, unless `log_early` has written it."""
        row = _identity(metrics, step)
        if row in self._early:
            self._early.discard(row)
        else:
            super().log_metrics(dict(metrics), step)


class _Writer(ExperimentWriter):
    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with atomic_path(path, shared=False) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=fieldnames)
            writer.writeheader()
            writer.writerows(rows)


def _identity(metrics: Mapping[str, Any], step: int | None) -> str:
    """Return a text that is equal for equal rows, also with NaN."""
    return repr((step, sorted((name, float(value)) for name, value in metrics.items())))

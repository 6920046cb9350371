"""Run folder: paths of its files, and methods that write and read them."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from omegaconf import DictConfig, OmegaConf

from reidlit.files import atomic_write, write_json
from reidlit.foreign_files import check_regular, expanded, read_json, reading
from reidlit.runs.result import RunResult
from reidlit.runs.result_checks import LARGEST, check_metrics
from reidlit.yaml_files import load_config, read_bounded, without_interpolations

Status = Literal["finished", "failed", "unfinished"]
METRICS, ERROR, HYDRA = "metrics.json", "error.txt", ".hydra"
MAX_LINE = 10_000  # characters of an error
REMEDY = "Repeat the run, or exclude this folder."


@dataclass(frozen=True)
class RunFolder:
    """Files of one run of a command.

    Attributes:
        path: Path of the folder: `hydra.run.dir`, or the folder of a job in a sweep.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path, argument: str = "run") -> Self:
        """Open the folder of an existing run.

        Args:
            path: Path of the folder.
            argument: Name of the setting that contains the path, for error messages.

        Raises:
            FileNotFoundError: If the folder does not exist.
            ValueError: If it is not a run folder.
        """
        folder = cls(expanded(path))
        if not folder.path.is_dir():
            raise FileNotFoundError(
                f"{argument}={path} does not exist: pass the folder of a `reidlit train` or `reidlit test` run."
            )
        if not folder.settings_file.is_file():
            raise ValueError(f"{argument}={path} is not a run folder: {HYDRA}/config.yaml is missing.")
        return folder

    @property
    def settings_file(self) -> Path:
        """Configuration of the run."""
        return self.path / HYDRA / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """All metrics by flat name; the last file that a run writes."""
        return self.path / METRICS

    @property
    def environment_file(self) -> Path:
        """Time, hardware and package versions."""
        return self.path / "environment.json"

    @property
    def per_query_file(self) -> Path:
        """Table with one row for each query of each test set."""
        return self.path / "per_query.parquet"

    @property
    def calibration_file(self) -> Path:
        """Thresholds for `reidlit verify`."""
        return self.path / "calibration.json"

    @property
    def error_file(self) -> Path:
        """Error of a failed sweep job: one line, followed by the traceback."""
        return self.path / ERROR

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """Newest checkpoint."""
        return self.checkpoints / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """Checkpoint with the best validation score, if the run selected one."""
        return self.checkpoints / "best.ckpt"

    def products(self) -> list[tuple[str, Path]]:
        """Return name and path of each existing result file."""
        files = [
            ("metrics", self.metrics_file),
            ("each query", self.per_query_file),
            ("checkpoint", self.last_checkpoint),
            ("best checkpoint", self.best_checkpoint),
        ]
        files += [("ranked lists", path) for path in sorted((self.path / "ranked_lists").glob("*.png"))]
        return [(name, path) for name, path in files if path.is_file()]

    def save_config(self, config: DictConfig) -> None:
        """Replace the configuration written by Hydra with the resolved one."""
        self.settings_file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.settings_file, OmegaConf.to_yaml(config))

    def save_result(self, result: RunResult) -> None:
        """Write `metrics.json`."""
        write_json(self.metrics_file, result.to_json())

    def config(self) -> DictConfig:
        """Read the configuration, without resolving interpolations.

        Raises:
            ValueError: If the file cannot be read.
        """
        config = load_config(self.own(self.settings_file))
        if not isinstance(config, DictConfig):
            raise ValueError(f"{self.settings_file} is invalid: must contain a mapping.")
        return config

    def settings(self) -> dict[str, Any]:
        """Read the configuration as a plain dict; interpolations that could reveal something remain as text.

        Raises:
            ValueError: If the file cannot be read.
        """
        with reading(self.settings_file, REMEDY):
            return without_interpolations(self.config())

    def config_text(self) -> str:
        """Read the text of the configuration."""
        return read_bounded(self.own(self.settings_file))

    def command(self) -> str:
        """Return the name of the command, such as `train`.

        Raises:
            ValueError: If the file written by Hydra cannot be read.
        """
        name: Any = self._hydra_file("hydra.yaml")
        for key in ("hydra", "job", "config_name"):
            name = name.get(key) if isinstance(name, dict) else None
        if not isinstance(name, str):
            raise ValueError(f"{self.path / HYDRA / 'hydra.yaml'} is invalid: hydra.job.config_name is missing.")
        return name

    def overrides(self) -> dict[str, str]:
        """Return the command-line settings by name; the last value of a setting takes precedence, as in Hydra.

        Raises:
            ValueError: If the file written by Hydra cannot be read.
        """
        overrides = self._hydra_file("overrides.yaml")
        if not isinstance(overrides, list):
            raise ValueError(f"{self.path / HYDRA / 'overrides.yaml'} is invalid: must contain a list.")
        return read_overrides(overrides)

    def metrics(self) -> dict[str, Any] | None:
        """Read `metrics.json`; return None if the run has not finished.

        Raises:
            ValueError: If the file is damaged, or a metric has another type than reidlit writes.
        """
        if not self.metrics_file.is_file():
            return None
        metrics = read_json(self.own(self.metrics_file), REMEDY)
        with reading(self.metrics_file, REMEDY):
            check_metrics(metrics)
        return metrics

    def result(self) -> RunResult | None:
        """Read the results; return None if the run has not finished."""
        metrics = self.metrics()
        return None if metrics is None else RunResult.from_json(metrics)

    def environment(self) -> dict[str, Any]:
        """Read the environment; return an empty dict if the file does not exist.

        Raises:
            ValueError: If the file is damaged.
        """
        file = self.environment_file
        return read_json(self.own(file), REMEDY) if file.is_file() else {}

    def training_log(self) -> dict[str, tuple[list[float], list[float]]]:
        """Read steps and values of each column of Lightning's CSV log; return an empty dict if it does not exist.

        Raises:
            ValueError: If the file is damaged.
        """
        columns: dict[str, tuple[list[float], list[float]]] = {}
        file = self.path / "csv" / "metrics.csv"
        if not file.is_file():
            return columns
        with reading(file, REMEDY), self.own(file).open(newline="", encoding="utf-8") as opened:
            for row in csv.DictReader(opened):
                if None in row:
                    raise ValueError("a line has more values than the header")
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        steps, values = columns.setdefault(name, ([], []))
                        steps.append(float(row["step"]))
                        values.append(float(value))
                        if LARGEST < max(abs(steps[-1]), abs(values[-1])) < math.inf:
                            raise ValueError("a value is too large to be drawn")
        return columns

    def error(self) -> str | None:
        """Return the first line of the error of a failed sweep job, or None."""
        if not self.error_file.is_file():
            return None
        with self.own(self.error_file).open(encoding="utf-8", errors="replace") as opened:
            return opened.readline(MAX_LINE).rstrip("\n")

    def status(self) -> Status:
        """Return the status of the run: finished, failed or unfinished."""
        if self.metrics_file.is_file():
            return "finished"
        return "failed" if self.error_file.is_file() else "unfinished"

    def _hydra_file(self, name: str) -> Any:
        """Read a file of Hydra as plain content, without resolving interpolations."""
        file = self.path / HYDRA / name
        try:
            config = load_config(self.own(file))
        except FileNotFoundError as error:
            raise ValueError(f"{self.path / HYDRA / name} is missing: the run folder is incomplete.") from error
        return OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config

    def own(self, file: Path) -> Path:
        """Return a file of this folder after checking that it is a regular file and not a link to somewhere else.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is not a regular file inside the folder.
        """
        check_regular(file)
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{file} is a link that leads out of the run folder. Replace it by the file itself.")
        return file


def read_overrides(overrides: Any) -> dict[str, str]:
    """Convert a list of Hydra overrides to settings by name, without the prefix `+`."""
    pairs = (str(override).lstrip("+").partition("=") for override in overrides or ())
    return {key: value for key, _, value in pairs}


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest `last.ckpt` of all runs in a folder, or None."""
    checkpoints = [RunFolder(path).last_checkpoint for path in folder.glob("*") if path.is_dir()]
    return max((path for path in checkpoints if path.is_file()), key=lambda path: path.stat().st_mtime, default=None)

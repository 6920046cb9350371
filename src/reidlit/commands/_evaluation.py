"""Testing of a module, and output of the results of a run."""

from pathlib import Path

import pytorch_lightning as pl

from reidlit.commands._errors import interruptible
from reidlit.commands._settings import current_run
from reidlit.console import say
from reidlit.data.datamodule import ReIDDataModule
from reidlit.engine.base import AnyModule
from reidlit.files import write_json
from reidlit.inference.calibration import Calibration, store
from reidlit.metrics import ReIDMetric
from reidlit.runs.environment import environment
from reidlit.runs.per_query import write_per_query
from reidlit.runs.result import RunResult, Stage, TestResult
from reidlit.runs.result_tables import print_results
from reidlit.runs.run_folder import RunFolder


def evaluate_module(
    trainer: pl.Trainer, module: AnyModule, datamodule: ReIDDataModule, stage: Stage = "test"
) -> tuple[TestResult, ...]:
    """Test a module on every test set of a data module."""
    with interruptible(trainer, "test", "No results were written; run the same command again."):
        trainer.test(module, datamodule, verbose=False)
    return tuple(module.result(name, datamodule.item_name, stage) for name in datamodule.test_sets)


def publish(
    result: RunResult,
    trainer: pl.Trainer,
    module: AnyModule,
    datamodule: ReIDDataModule,
    calibrated: Path | None = None,
    version: tuple[int, int] | None = None,
) -> None:
    """Write and print the results of a run, on the main process only.

    Args:
        result: All results of the run.
        trainer: Trainer of the test.
        module: Module that was tested.
        datamodule: Data module with the test sets.
        calibrated: Checkpoint that also stores the thresholds for `reidlit verify`, in addition to `calibration.json`.
        version: `file_version` of that checkpoint when it was loaded; None if this run has written it.
    """
    if not trainer.is_global_zero:
        return
    folder = current_run()
    if not getattr(module, "ensemble", False):  # a checkpoint is used as a single network, which needs other thresholds
        _calibrate(folder, result, module, calibrated, version)
    tested = {test.dataset: module.metrics[test.dataset] for test in result.tests}
    metrics = {name: metric for name, metric in tested.items() if isinstance(metric, ReIDMetric) and name is not None}
    write_per_query(folder.per_query_file, metrics, datamodule.test_sets)
    write_json(folder.environment_file, environment(trainer))
    folder.save_result(result)
    print_results(result)
    announce(folder)


def announce(folder: RunFolder) -> None:
    """Print the paths of the output files of a run."""
    for name, path in folder.products():
        say(f"{name}: {path}")


def _calibrate(
    folder: RunFolder,
    result: RunResult,
    module: AnyModule,
    checkpoint: Path | None,
    version: tuple[int, int] | None,
) -> None:
    """Store the thresholds measured on the first test set."""
    if not result.tests:
        return
    test = result.tests[0]
    calibration = Calibration.of_test(str(test.dataset), test.metrics, module.hparams.get("evaluation") or {})
    if calibration is None:
        return
    write_json(folder.calibration_file, calibration.as_dict())
    if checkpoint is not None and checkpoint.is_file() and not store(checkpoint, calibration, version):
        say(f"calibration: not stored in {checkpoint}, which another process has replaced since it was loaded")

"""A W&B logger that never prompts, works offline and resumes the previous run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import wandb
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn
from wandb.errors import AuthenticationError, CommError

from reidlit.console import say
from reidlit.engine.loggers.run_name import essentials, options
from reidlit.files import write_json
from reidlit.models.weights import read_settings

RUN_FILE = "wandb_run.json"  # file in the run folder that contains the id of the W&B run
STAGING = "WANDB_DATA_DIR"  # environment variable for the folder of files that are not uploaded yet
STEP = "trainer/global_step"
PATIENCE = 20.0  # seconds to wait for W&B unless the user requires it
METADATA_SCORES = ("/mAP", "/mINP", "/rank1")  # W&B accepts 100 entries


class WandbRun(WandbLogger):
    """Lightning's `WandbLogger` with an offline fallback, and with scores and settings in the metadata of checkpoints.

    Each row of the history belongs to an optimizer step, so the rows of a resumed run continue those of the previous
    one.

    Args:
        save_dir: Folder for the run's files.
        offline: True to write files only, False to require W&B. None follows the environment variable WANDB_MODE; if
            that is not set, the run is online if an account is set up on this machine and W&B responds.
        log_model: Whether to log checkpoints as artifacts: True at the end of the run, "all" whenever one is written.
        **run: Arguments of `wandb.init`, such as `project`, `name`, `group` and the `id` of the run to resume.
    """

    staging: ClassVar[str | None] = None  # value of STAGING that this class has set in the environment

    def __init__(
        self, save_dir: str, offline: bool | None = None, log_model: bool | Literal["all"] = False, **run: Any
    ) -> None:
        # create_new: a failed job of a sweep may leave an open run in this process.
        super().__init__(save_dir=str(Path(save_dir).resolve()), log_model=log_model, reinit="create_new", **run)
        self.folder = Path(save_dir).resolve()
        self.offline = offline
        self._ended = False
        self._config: dict[str, Any] = {}
        self._val: dict[str, float] = {}
        self._test: dict[str, float] = {}
        self._tested_step: int | None = None
        self._checkpoints: dict[str, dict[str, float]] = {}  # path -> scores of the last validation

    @property
    def experiment(self) -> Any:
        """The `wandb.Run`, started on first access; a dummy on all ranks except the first.

        Raises:
            ValueError: If the user requires W&B, but there is no account or no response.
        """
        if self._experiment is None:
            self._start()
        return super().experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the configuration, and the selected choice of each configuration group as `options`."""
        self._config = dict(params)
        super().log_hyperparams({**params, "options": options()})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics in the row of a step, or in the last row if that belongs to a later step."""
        scores = {name: float(value) for name, value in metrics.items() if name.endswith(METADATA_SCORES)}
        self._val |= {name: value for name, value in scores.items() if name.startswith("val/")}
        if test := {name: value for name, value in scores.items() if name.startswith("test/")}:
            self._test, self._tested_step = self._test | test, step
        if step is None:
            self.experiment.log(dict(metrics))
        else:
            self.experiment.log({**metrics, STEP: step}, step=max(step, self.experiment.step))

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Register the checkpoints for the end of the run; with `log_model="all"`, also log them immediately."""
        for path in (checkpoint_callback.best_model_path, checkpoint_callback.last_model_path):
            if self._log_model and path and Path(path).is_file():
                self._checkpoints[path] = dict(self._val)
                if self._log_model == "all":
                    self._log_checkpoint(path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close a failed run. A successful run may still be tested and is closed by `end`."""
        if status != "success":
            self.end(failed=True)

    def end(self, failed: bool = False) -> None:
        """Log the checkpoints if requested, close the run, and print how to upload it if it is offline."""
        run = self._experiment
        if run is None or self._ended:
            return
        self._ended = True
        if not failed:
            for path in self._checkpoints:
                self._log_checkpoint(path)
        run.finish(exit_code=int(failed))
        if WandbRun.staging is not None:
            os.environ.pop(STAGING, None)
            WandbRun.staging = None
        if run.offline and not run.disabled:
            command = f"wandb sync {Path(run.dir).parent}"
            say(f"W&B run saved offline. Upload it with: {command}")

    @rank_zero_only
    def _start(self) -> None:
        mode, required = _mode(self.offline)
        self.folder.mkdir(parents=True, exist_ok=True)  # without it, W&B would use a temporary folder
        try:
            self._init(mode, wandb.Settings() if required else wandb.Settings(init_timeout=PATIENCE))
        except (CommError, AuthenticationError) as error:
            reason = _first_line(error)
            if required:
                raise ValueError(
                    f"W&B did not respond: {reason}. Set logger.wandb.offline=true to write files for wandb sync "
                    "instead."
                ) from error
            rank_zero_warn(
                f"W&B did not respond ({reason}). This run is written to files for wandb sync. Set "
                "logger.wandb.offline=true to skip the connection attempt."
            )
            self._init("offline", wandb.Settings())

    def _init(self, mode: str, settings: wandb.Settings) -> None:
        if mode == "offline":
            settings.silent = True
            if os.environ.get(STAGING) == WandbRun.staging:  # not set by the user
                # By default, W&B stages tables, images and artifacts in the home folder. Keep them in the run folder.
                WandbRun.staging = os.environ[STAGING] = str(self.folder / "wandb" / "data")
        self._wandb_init |= {"mode": mode, "settings": settings}
        run: Any = super().experiment
        if not run.disabled:
            write_json(self.folder / RUN_FILE, {"id": run.id, "project": run.project, "entity": run.entity or None})

    def _log_checkpoint(self, path: str) -> None:
        """Log a new version of the artifact `model-<run id>` if the file has changed since the last version."""
        file = Path(path)
        if not file.is_file() or self._logged_model_time.get(path) == file.stat().st_mtime:
            return
        self._logged_model_time[path] = file.stat().st_mtime
        content = read_settings(path)
        step = content.get("global_step")
        metadata = {"file": file.name, "epoch": content.get("epoch"), "step": step, **self._checkpoints[path]}
        if step == self._tested_step:
            metadata |= self._test  # scores of a test at another step belong to other weights
        artifact = wandb.Artifact(
            f"model-{self.experiment.id}", type="model", metadata=metadata | essentials(self._config)
        )
        artifact.add_file(path)
        self.experiment.log_artifact(artifact, aliases=["latest", file.stem])


def _mode(offline: bool | None) -> tuple[str, bool]:
    """Return the mode for W&B, and whether the user has set it.

    Raises:
        ValueError: If the user requires W&B and no account is set up.
    """
    chosen = {None: os.environ.get("WANDB_MODE") or None, True: "offline", False: "online"}[offline]
    if chosen not in (None, "online", "run"):
        return ("offline" if chosen == "dryrun" else chosen), True
    problem = account_problem()
    if chosen and problem:
        setting = "logger.wandb.offline=false" if offline is False else f"WANDB_MODE={chosen}"
        raise ValueError(
            f"{setting} requires W&B, but {problem}. Run `wandb login`, set WANDB_API_KEY, or use "
            "logger.wandb.offline=true."
        )
    return ("offline" if problem else "online"), bool(chosen)


def account_problem() -> str | None:
    """Return the reason why no W&B account can be used, or None; never prompts and works without a network."""
    try:
        return None if wandb.login(prompt=False, verify=False) else "no account is set up on this machine"
    except AuthenticationError as error:
        return _first_line(error).rstrip(".")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

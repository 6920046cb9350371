"""A W&B run that never asks, never needs a network, and goes on where it was stopped."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import wandb
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn
from rich.console import Console
from wandb.errors import AuthenticationError, CommError

from reidlit.engine.loggers.run_name import essentials, options
from reidlit.models.weights import read_checkpoint

KEPT = "wandb_run.json"  # in the run's folder: which run on W&B it is
STAGING = "WANDB_DATA_DIR"  # where W&B copies what is not uploaded yet
STEP = "trainer/global_step"
PATIENCE = 20.0  # seconds to reach W&B when nobody has asked for it by name
IN_METADATA = ("/mAP", "/mINP", "/rank1")  # W&B takes 100 entries


class WandbRun(WandbLogger):
    """Lightning's logger with rules of its own for when to be online, which run to go on with, and artifacts.

    Online or not: `offline` if it is given; else the environment variable WANDB_MODE if it is set; else online where an
    account is set up on this machine and W&B answers. Else all is written to files, which `wandb sync` uploads.

    A row of the history belongs to a step of the optimiser, so that the rows of a resumed run follow those before it.

    Args:
        save_dir: where the run's files go.
        project: on W&B.
        offline: write files only; False insists on W&B.
        log_model: keep checkpoints as artifacts: True when the run ends, `all` whenever one is written.
        resumed: the folder of the run that this one goes on with; its run on W&B is taken up, if it has one in the project.
        entity: the user or team on W&B.
        name: of the run.
        group: under which W&B shows runs together.
        tags: to find it by.
        job_type: such as train.
    """

    staging: ClassVar[str | None] = None  # set by this class, in the process's environment

    def __init__(
        self,
        save_dir: str,
        project: str,
        offline: bool | None = None,
        log_model: bool | Literal["all"] = False,
        resumed: Path | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        job_type: str | None = None,
    ) -> None:
        super().__init__(save_dir=save_dir, project=project, name=name)
        self.folder = Path(save_dir).resolve()
        self.offline = offline
        self.checkpoints_kept = log_model
        self.resumed = resumed
        self._start: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
            "tags": list(tags) or None,
            "job_type": job_type,
        }
        self._ended = False
        self._config: dict[str, Any] = {}
        self._val: dict[str, float] = {}
        self._test: dict[str, float] = {}
        self._tested_step: int | None = None
        self._written: dict[str, dict[str, float]] = {}  # by path of a checkpoint, the validation before it
        self._kept_at: dict[str, float] = {}

    @property
    def experiment(self) -> Any:
        """The `wandb.Run`, begun when it is first needed; on other processes than the main one something that does nothing.

        Raises:
            ValueError: if W&B is asked for by name and there is no account, or no answer.
        """
        self._begin()
        return super().experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the configuration, and under `options` the names that it was chosen by."""
        self._config = dict(params)
        super().log_hyperparams({**params, "options": options()})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log into the row of a step; into the last one if that is later."""
        scores = {name: float(value) for name, value in metrics.items() if name.endswith(IN_METADATA)}
        self._val |= {name: value for name, value in scores.items() if name.startswith("val/")}
        if test := {name: value for name, value in scores.items() if name.startswith("test/")}:
            self._test, self._tested_step = self._test | test, step
        if step is None:
            self.experiment.log(dict(metrics))
            return
        self.experiment.log({**metrics, STEP: step}, step=max(step, self.experiment.step))

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Remember a checkpoint, or log it at once."""
        if not self.checkpoints_kept:
            return
        for path in (checkpoint_callback.best_model_path, checkpoint_callback.last_model_path):
            if path and Path(path).is_file():
                self._written[path] = dict(self._val)
                if self.checkpoints_kept == "all":
                    self._log_checkpoint(path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close a run that failed; one that did not may still be tested, and ends with `end`."""
        if status != "success":
            self.end(failed=True)

    def end(self, failed: bool = False) -> None:
        """Log the checkpoints if they are asked for, close the run, and say how to upload it if it is offline."""
        if self._experiment is None or self._ended:
            return
        self._ended = True
        if not failed:
            for path in self._written:
                self._log_checkpoint(path)
        run = self.experiment
        run.finish(exit_code=int(failed))
        if WandbRun.staging is not None:
            os.environ.pop(STAGING, None)
            WandbRun.staging = None
        if run.offline and not run.disabled:
            self._say(f"W&B: offline; to upload this run: wandb sync {Path(run.dir).parent}")

    @rank_zero_only
    def _begin(self) -> None:
        if self._experiment is None:
            self._experiment = self._reached()

    def _reached(self) -> Any:
        """A run that is online if it shall and can be."""
        mode, insisted = _mode(self.offline)
        # W&B would fall back to a temporary folder.
        self.folder.mkdir(parents=True, exist_ok=True)
        if mode == "offline":
            return self._init(mode)
        settings = wandb.Settings() if insisted else wandb.Settings(init_timeout=PATIENCE)
        try:
            return self._init(mode, settings)
        except (CommError, AuthenticationError) as error:
            reason = str(error).strip().partition("\n")[0]
            if insisted:
                raise ValueError(
                    f"W&B did not answer: {reason}. logger.wandb.offline=true keeps the run in files for wandb sync."
                ) from error
            rank_zero_warn(
                f"W&B did not answer ({reason}), so the run is kept in files for wandb sync; logger.wandb.offline=true does "
                "not wait for it."
            )
            return self._init("offline")

    def _init(self, mode: str | None, settings: wandb.Settings | None = None) -> Any:
        if mode == "offline" and os.environ.get(STAGING) == WandbRun.staging:  # the user has not set another
            # W&B stages tables, images and artifacts in the user's home, and an offline run would lie in two places.
            WandbRun.staging = os.environ[STAGING] = str(self.folder / "wandb" / "data")
        previous = self._previous()
        run = wandb.init(
            dir=str(self.folder),
            mode=mode,  # type: ignore[arg-type]  # one of W&B's words, from WANDB_MODE
            id=previous,
            resume="allow" if previous else None,
            reinit="create_new",  # a job of a sweep that failed leaves its run behind in this process
            settings=settings or wandb.Settings(silent=True),
            **self._start,
        )
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        if not run.disabled:
            kept = {"id": run.id, "project": run.project, "entity": run.entity or None}
            (self.folder / KEPT).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        return run

    def _previous(self) -> str | None:
        """The id of the run to go on with."""
        file = self.resumed / KEPT if self.resumed is not None else None
        if file is None or not file.is_file():
            return None
        kept = json.loads(file.read_text(encoding="utf-8"))
        return str(kept["id"]) if kept["project"] == self._start["project"] else None

    def _log_checkpoint(self, path: str) -> None:
        """As a version of the artifact `model-<id of the run>`, if it has changed since the last one."""
        file = Path(path)
        if not file.is_file() or self._kept_at.get(path) == file.stat().st_mtime:
            return
        self._kept_at[path] = file.stat().st_mtime
        content = read_checkpoint(path) or {}
        told = {"file": file.name, "epoch": content.get("epoch"), "step": content.get("global_step")}
        test = self._test if told["step"] == self._tested_step else {}  # scores of these weights only
        run = self.experiment
        metadata = {**told, **self._written[path], **test, **essentials(self._config)}
        artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=metadata)
        artifact.add_file(path)
        run.log_artifact(artifact, aliases=["latest", file.stem])

    @rank_zero_only
    def _say(self, text: str) -> None:
        Console().print(text, highlight=False, soft_wrap=True, markup=False)


def _mode(offline: bool | None) -> tuple[str | None, bool]:
    """W&B's mode, and whether the user has named it.

    Raises:
        ValueError: if the user insists on W&B and no account is set up.
    """
    named = {None: os.environ.get("WANDB_MODE") or None, True: "offline", False: "online"}[offline]
    if named not in (None, "online", "run"):
        return ("offline" if named == "dryrun" else named), True
    try:
        known, why = wandb.login(prompt=False, verify=False), "no account is set up on this machine"
    except AuthenticationError as error:
        known, why = False, str(error).strip().partition("\n")[0].rstrip(".")
    if named and not known:
        asked = "logger.wandb.offline=false" if offline is False else f"WANDB_MODE={named}"
        raise ValueError(
            f"{asked} needs W&B, but {why}: run `wandb login`, or set WANDB_API_KEY, or take logger.wandb.offline=true."
        )
    return ("online" if known else "offline"), bool(named)

"""A search by Optuna that can be cut and gone on with.

The published hydra-optuna-sweeper needs Optuna below 3, whose storages do not work with today's SQLAlchemy, and numbers the
jobs from 0 again where it goes on.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

WAYS = (
    "a choice (resnet18,resnet50), range(1,9,2), interval(0.1,0.5), int(interval(1,8)) or tag(log,interval(1e-5,1e-2))"
)


class OptunaSweeper(Sweeper):
    """Searches for the settings with the highest mAP. Jobs that fail count as trials; Optuna leaves them out.

    The trials are kept in `optuna.log` in the folder of the sweep, a trial's job in the folder of its number.

    Source: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019.

    Args:
        n_trials: how many in all, those before a cut included.
        n_jobs: how many are given to the launcher at a time; more than one needs hydra/launcher=joblib or submitit.
        sampler: the spec of an Optuna sampler.
        params: settings and what to search them in, as on the command line, which wins.
    """

    def __init__(
        self, n_trials: int, n_jobs: int, sampler: DictConfig, params: Mapping[str, str] | None = None
    ) -> None:
        self.n_trials, self.n_jobs = n_trials, n_jobs
        self.sampler, self.params = sampler, params or {}
        self.launcher: Launcher
        self.config: DictConfig
        self.hydra_context: HydraContext

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What Hydra passes before the sweep."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Run the trials that are still to be run.

        Args:
            arguments: the settings of the command line, fixed ones and those to search.
        """
        from reidlit.commands._errors import explained

        with explained(str(self.config.hydra.job.config_name)):
            return self._sweep(arguments)

    def _sweep(self, arguments: Sequence[str]) -> list[JobReturn]:
        for name in ("n_trials", "n_jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"hydra.sweeper.{name}={getattr(self, name)} must be at least 1.")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = [f"{key}={value}" for key, value in self.params.items()]
        overrides = {item.get_key_element(): item for item in parser.parse_overrides([*given, *arguments])}
        space = {key: distribution(item) for key, item in overrides.items() if item.is_sweep_override()}
        if not space:
            raise ValueError(f"hydra/sweeper=optuna has no setting to search: give one as {WAYS}.")
        fixed = [
            f"{key}={item.get_value_element_as_str()}" if not item.is_delete() else str(item.input_line)
            for key, item in overrides.items()
            if key not in space
        ]
        study = self._study()
        returned: list[JobReturn] = []
        while numbered := self._next(study, space):
            batch = [[*fixed, *(f"{key}={value}" for key, value in params.items())] for params in numbered.values()]
            self.validate_batch_is_legal(batch)
            results = self.launcher.launch(batch, initial_job_idx=min(numbered))
            for number, result in zip(numbered, results, strict=True):
                _tell(study, number, result.return_value)
            returned += results
        return returned

    def _study(self) -> "Study":
        """The study in the folder of the sweep, new or gone on with."""
        import optuna  # here, because every Hydra application in the environment imports this file
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "optuna.log"
        if not log.is_file() and any(folder.glob("*/metrics.json")):
            raise ValueError(f"hydra.sweep.dir={folder} holds finished jobs, but their optuna.log is lost: start anew.")
        OmegaConf.save(self.config, folder / "multirun.yaml")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # A file to which lines are appended, and no database: it also works on the network drives of clusters.
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(log))),
            sampler=instantiate(self.sampler),
            study_name="reidlit",
            direction="maximize",
            load_if_exists=True,
        )
        if study.trials:
            study.sampler.reseed_rng()  # or it would propose its first trials again
        return study

    def _next(self, study: "Study", space: Mapping[str, "BaseDistribution"]) -> dict[int, dict[str, Any]]:
        """The next trials' settings by number: those that were cut first. Their numbers follow each other."""
        from optuna.trial import TrialState

        cut = {}
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.params.keys() == space.keys():
                cut[trial.number] = dict(trial.params)
            else:  # it was cut while its settings were drawn
                study.tell(trial.number, state=TrialState.FAIL)
        if cut:
            return dict(list(cut.items())[: self.n_jobs])
        count = min(self.n_jobs, self.n_trials - len(study.get_trials(deepcopy=False)))
        asked = [study.ask(dict(space)) for _ in range(count)]
        return {trial.number: dict(trial.params) for trial in asked}


def distribution(override: Override) -> "BaseDistribution":
    """What Optuna draws a setting from. Choices are texts, as they stand on the command line.

    Raises:
        ValueError: if a tag is unknown, or Optuna does not take the bounds.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    if unknown := sorted(getattr(sweep, "tags", set()) - {"log"}):
        raise ValueError(f"{override.input_line}: the tag {unknown[0]} is unknown; there is log.")
    step: Any = None
    try:
        if isinstance(sweep, RangeSweep):
            values: list[Any] = sorted(sweep.range())
            low, high, step = values[0], values[-1], abs(sweep.step)
        elif isinstance(sweep, IntervalSweep):
            low, high = sweep.start, sweep.end
        else:
            return CategoricalDistribution(list(override.sweep_string_iterator()))
        log = "log" in sweep.tags
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log, step or 1)
        return FloatDistribution(low, high, log, step)
    except (ValueError, IndexError) as error:  # IndexError: a range without a value
        raise ValueError(f"{override.input_line} cannot be searched ({error}): give {WAYS}.") from error


def _tell(study: "Study", number: int, value: Any) -> None:
    from optuna.trial import TrialState

    if value is None:
        raise ValueError(
            "a job returned no mAP to search by: leave test=true, or hold out identities (data.val_fraction)."
        )
    if math.isnan(value):
        study.tell(number, state=TrialState.FAIL)
    else:
        study.tell(number, value)

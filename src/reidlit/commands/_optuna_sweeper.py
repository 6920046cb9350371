"""`hydra/sweeper=optuna`: resumable hyperparameter search with Optuna.

The published hydra-optuna-sweeper is not used for two reasons. It needs Optuna 2, which does not work with current
versions of SQLAlchemy, and it renumbers the jobs when a search is resumed.
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

TARGET = "hydra_plugins.reidlit_optuna.sweeper.OptunaSweeper"  # name in conf/hydra/sweeper and in sweep folders
SPACES = (
    "a choice (resnet18,resnet50), range(1,9,2), interval(0.1,0.5), int(interval(1,8)) or tag(log,interval(1e-5,1e-2))"
)


def register() -> None:
    """Make the sweeper available to Hydra in this process.

    Hydra discovers packages in the namespace `hydra_plugins` by itself, but then every Hydra application in the
    environment would load this one. Hydra accepts only sweepers whose `_target_` is in that namespace, so the class is
    registered under such a name.
    """
    plugins = Plugins.instance()
    plugins.register(OptunaSweeper)
    plugins.class_name_to_class[TARGET] = OptunaSweeper


class OptunaSweeper(Sweeper):
    """Hydra sweeper that searches for the settings with the highest mAP.

    Trials are stored in `optuna.log` in the sweep folder, and each job runs in the subfolder of its trial number.
    Failed jobs count as trials, but the search ignores them.

    Source: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019.

    Args:
        n_trials: Total number of trials, including those before an interruption.
        n_jobs: Number of jobs per call of the launcher; more than one needs hydra/launcher=joblib or submitit.
        sampler: Spec of an Optuna sampler.
        params: Search space of each setting, in override syntax. Overrides of the command line take precedence.
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
        """Store the configuration of the sweep and create the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Run the remaining trials.

        Args:
            arguments: Overrides of the command line, both fixed values and search spaces.
        """
        from reidlit.commands._errors import explained

        with explained(str(self.config.hydra.job.config_name)):
            return self._sweep(arguments)

    def _sweep(self, arguments: Sequence[str]) -> list[JobReturn]:
        for name in ("n_trials", "n_jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"hydra.sweeper.{name}={getattr(self, name)} is invalid: must be at least 1.")
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        defaults = [f"{key}={value}" for key, value in self.params.items()]
        overrides = {item.get_key_element(): item for item in parser.parse_overrides([*defaults, *arguments])}
        space = {key: distribution(item) for key, item in overrides.items() if item.is_sweep_override()}
        if not space:
            raise ValueError(f"hydra/sweeper=optuna needs a setting to search: give at least one as {SPACES}.")
        fixed = [
            f"{key}={item.get_value_element_as_str()}" if not item.is_delete() else str(item.input_line)
            for key, item in overrides.items()
            if key not in space
        ]
        study = self._study()
        job_returns: list[JobReturn] = []
        while trials := self._next(study, space):
            batch = [[*fixed, *(f"{key}={value}" for key, value in params.items())] for params in trials.values()]
            self.validate_batch_is_legal(batch)
            results = self.launcher.launch(batch, initial_job_idx=min(trials))
            for number, result in zip(trials, results, strict=True):
                _report_score(study, number, result.return_value)
            job_returns += results
        return job_returns

    def _study(self) -> "Study":
        """Create the study in the sweep folder, or load it."""
        import optuna  # an optional dependency
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "optuna.log"
        if not log.is_file() and any(folder.glob("*/metrics.json")):
            raise ValueError(
                f"hydra.sweep.dir={folder} contains finished jobs, but optuna.log is missing: start the sweep in "
                "another folder."
            )
        OmegaConf.save(self.config, folder / "multirun.yaml")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # An append-only file also works on the network drives of clusters, unlike a database.
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(log))),
            sampler=instantiate(self.sampler),
            study_name="reidlit",
            direction="maximize",
            load_if_exists=True,
        )
        if study.trials:
            study.sampler.reseed_rng()  # otherwise it would repeat its first proposals
        return study

    def _next(self, study: "Study", space: Mapping[str, "BaseDistribution"]) -> dict[int, dict[str, Any]]:
        """Return the settings of the next trials by trial number; interrupted trials come first."""
        from optuna.trial import TrialState

        interrupted = {}
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.params.keys() == space.keys():
                interrupted[trial.number] = dict(trial.params)
            else:  # interrupted while its settings were sampled
                study.tell(trial.number, state=TrialState.FAIL)
        if interrupted:
            return dict(list(interrupted.items())[: self.n_jobs])
        count = min(self.n_jobs, self.n_trials - len(study.get_trials(deepcopy=False)))
        trials = [study.ask(dict(space)) for _ in range(count)]
        return {trial.number: dict(trial.params) for trial in trials}


def distribution(override: Override) -> "BaseDistribution":
    """Convert a sweep override to an Optuna distribution; choices stay text, as on the command line.

    Raises:
        ValueError: If a tag is unknown, or Optuna rejects the bounds.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    if unknown := sorted(getattr(sweep, "tags", set()) - {"log"}):
        raise ValueError(f"{override.input_line} is invalid: unknown tag {unknown[0]}. The only tag is log.")
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
    except (ValueError, IndexError) as error:  # IndexError: the range is empty
        raise ValueError(f"{override.input_line} cannot be searched ({error}): give {SPACES}.") from error


def _report_score(study: "Study", number: int, value: Any) -> None:
    from optuna.trial import TrialState

    if value is None:
        raise ValueError(
            "A job returned no score, so the search cannot continue: set test=true, or hold out identities with "
            "data.val_fraction=0.1."
        )
    if math.isnan(value):
        study.tell(number, state=TrialState.FAIL)
    else:
        study.tell(number, value)

"""The folder of a sweep: what was asked for in it, and what became of each job.

Only Hydra's own dependencies are imported here: it is read before a sweep begins.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reidlit.overrides import text

RESUME = "resume_sweep="
SWEEP = "multirun.yaml"  # sweepers write it before the first job
ERROR = "error.txt"
METRICS = "metrics.json"


@dataclass(frozen=True)
class Job:
    """What is known of a job from its folder.

    Attributes:
        name: Its folder, seen from the sweep's.
        settings: What it was told, by name.
        status: `finished`, `failed` or `unfinished`.
        metrics: As in `metrics.json`; empty unless it finished and was scored.
        error: Why it failed, in a line, or None.
    """

    name: str
    settings: Mapping[str, str]
    status: str
    metrics: Mapping[str, Any]
    error: str | None


def jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep, in the order of their numbers."""
    found = [_job(folder, path.parents[1]) for path in folder.rglob(".hydra/overrides.yaml")]
    return sorted(found, key=lambda job: (len(job.name), job.name))


def _job(sweep: Path, folder: Path) -> Job:
    told = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "overrides.yaml"), resolve=False)
    pairs = (str(override).lstrip("+").partition("=") for override in told or ())
    metrics, error = finished(folder), folder / ERROR
    return Job(
        name=folder.relative_to(sweep).as_posix(),
        settings={key: value for key, _, value in pairs},
        status="finished" if metrics is not None else "failed" if error.is_file() else "unfinished",
        metrics=metrics or {},
        error=error.read_text(encoding="utf-8").partition("\n")[0] if error.is_file() else None,
    )


def finished(folder: Path) -> dict[str, Any] | None:
    """The metrics that a job has left, or None before it has: they are the last that it writes."""
    file = folder / METRICS
    if not file.is_file():
        return None
    metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return metrics


def score_name(metrics: Mapping[str, Any]) -> str | None:
    """What a sweep maximises: the mAP on the held-out identities if there are any, else on the first test set.

    Of attributes it is the mA.
    """
    scored = [name for name in metrics if name.startswith(("val/", "test/"))]
    return next((name for kind in ("/mAP", "/mA") for name in scored if name.endswith(kind)), None)


def score(metrics: Mapping[str, Any]) -> float | None:
    """Its value, or None if nothing was scored."""
    name = score_name(metrics)
    return None if name is None or metrics[name] is None else float(metrics[name])


def resumed(command: str, arguments: Sequence[str]) -> list[str]:
    """The arguments with `resume_sweep=<folder>` replaced by those that the sweep in that folder was started with.

    What stands beside it, such as `hydra/launcher=joblib`, comes later and so wins.

    Raises:
        FileNotFoundError: if no sweep was started in the folder.
        ValueError: if it was one of another command.
    """
    given = [item for item in arguments if item.startswith(RESUME)]
    if not given:
        return list(arguments)
    folder = Path(given[-1].removeprefix(RESUME).strip("'\"")).expanduser()
    if not (folder / SWEEP).is_file():
        raise FileNotFoundError(
            f"{given[-1]}: there is no {SWEEP} in it. Give the folder of a sweep, such as runs/multirun/<date>_<time>."
        )
    then = _asked(OmegaConf.load(folder / SWEEP))
    if then["command"] != command and not any(item.startswith(("--config-name", "-cn")) for item in arguments):
        raise ValueError(f"{given[-1]} is a sweep of reidlit {then['command']}: go on with it by that command.")
    beside = [item for item in arguments if item not in (*given, "-m", "--multirun")]
    replaced = {_key(item) for item in beside} | {"hydra.sweep.dir", "hydra.mode"}
    before = [item for item in (*then["hydra"], *then["task"]) if _key(item) not in replaced]
    return ["-m", *before, *beside, f"hydra.sweep.dir={text(str(folder))}"]


def _key(argument: str) -> str:
    return argument.partition("=")[0]


def refuse_another(config: DictConfig) -> None:
    """Refuse to start a sweep in the folder of another one, whose jobs have the same numbers.

    Args:
        config: of the sweep, with `hydra`.

    Raises:
        ValueError: if the folder holds other jobs than these.
    """
    folder = Path(config.hydra.sweep.dir)
    if (folder / SWEEP).is_file():
        then, now = _asked(OmegaConf.load(folder / SWEEP)), _asked(config)
        if any(then[part] != now[part] for part in ("command", "task", "sweeper")):
            raise ValueError(
                f"hydra.sweep.dir={folder} holds the sweep `{' '.join(['reidlit', then['command'], '-m', *then['task']])}`. "
                f"Go on with that one by {RESUME}{folder}, or give this one a folder of its own; reidlit aggregate takes several."
            )
    elif any(folder.glob("*/.hydra")):
        raise ValueError(f"hydra.sweep.dir={folder} holds runs already: give the sweep a folder of its own.")


def _asked(config: Any) -> dict[str, Any]:
    """What the jobs of a sweep follow from."""
    overrides = OmegaConf.to_container(config.hydra.overrides, resolve=False)
    sweeper = config.hydra.sweeper
    params = sweeper.get("params")
    return {
        "command": config.hydra.job.config_name,
        "task": overrides["task"] if isinstance(overrides, dict) else [],
        "hydra": overrides["hydra"] if isinstance(overrides, dict) else [],
        "sweeper": [sweeper._target_, OmegaConf.to_container(params, resolve=False) if params else None],
    }

"""`reidlit dashboard`: a W&B workspace for the runs that `logger=wandb` logs."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

from reidlit.console import say
from reidlit.engine.loggers.wandb import STEP, account_problem

LINES = {  # section -> title of a line plot -> regular expression of its metrics
    "Training": {
        "loss": "train/loss",
        "loss terms": "train/(?!loss|accuracy|grad_norm|images_per_second|spread|.*_distance|skipped).*",
        "training accuracy": "train/accuracy",
        "gradient norm": "train/grad_norm",
        "learning rate": "lr-.*",
        "embedding spread": "train/spread",
        "pair distances": "train/(positive|negative)_distance",
        "images per second": "train/images_per_second",
    },
    "Validation": {"mAP": "val/mAP", "mINP": "val/mINP", "CMC": "val/rank.*"},
}
BARS = {
    "Retrieval": ("mAP", "mINP", "rank1", "rank5", "rank10"),
    "Verification": ("AUC", "EER", "TPR@FPR=1e-04", "TPR@FPR=1e-03"),
}
CURVES = {"Retrieval": ("cmc", "CMC", "rank", "CMC"), "Verification": ("roc", "ROC", "log10_FPR", "TPR")}  # title, x, y


def run(cfg: DictConfig) -> None:
    """Create the workspace on W&B and print its address.

    Raises:
        ValueError: If a setting is missing or invalid, wandb-workspaces is not installed, no account is configured, or
            W&B rejects the workspace.
    """
    entity, _, project = str(cfg.project or "").partition("/")
    if not entity or not project or "/" in project:
        raise ValueError(f"project={cfg.project} is invalid: must be <entity>/<project>, as in the project's W&B URL.")
    if not cfg.datasets:
        raise ValueError("datasets=[] is empty: list the test sets of the runs, for example datasets=[market1501].")
    workspace = build_workspace(entity, project, list(cfg.datasets), cfg.name)
    if problem := account_problem():
        raise ValueError(f"project={cfg.project} cannot be reached: {problem}. Run `wandb login` or set WANDB_API_KEY.")
    try:
        workspace.save()
    except Exception as error:  # W&B raises private exception classes
        raise ValueError(f"project={cfg.project}: W&B rejected the workspace: {error}") from error
    say(f"workspace: {workspace.url}")


def build_workspace(entity: str, project: str, datasets: Sequence[str], name: str = "reidlit") -> Any:
    """Build a `wandb_workspaces.workspaces.Workspace` without a network connection.

    Args:
        entity: W&B user or team.
        project: W&B project.
        datasets: Names of the test sets.
        name: Name of the workspace.

    Raises:
        ValueError: If wandb-workspaces is not installed.
    """
    try:
        ws, wr = import_module("wandb_workspaces.workspaces"), import_module("wandb_workspaces.reports.v2")
    except ModuleNotFoundError as error:
        raise ValueError("reidlit dashboard needs wandb-workspaces: pip install 'reidlit[dashboard]'.") from error
    tests = [f"test/{dataset}" for dataset in datasets]
    sections = {
        heading: [wr.LinePlot(title=title, x=STEP, metric_regex=f"^{metric}$") for title, metric in plots.items()]
        for heading, plots in LINES.items()
    }
    for heading, names in BARS.items():
        bars = [wr.BarPlot(title=f"{each}, {test}", metrics=[f"{test}/{each}"]) for test in tests for each in names]
        sections[heading] = bars + [_curve(wr, test, *CURVES[heading]) for test in tests]
    maps = [wr.MediaBrowser(title=f"mAP between cameras, {test}", media_keys=[f"{test}/camera_map"]) for test in tests]
    sections["Cameras"] = maps + [wr.WeavePanelSummaryTable(table_name=f"{test}/camera_pairs") for test in tests]
    lists = [wr.WeavePanelSummaryTable(table_name=f"{test}/ranked_lists") for test in tests]
    panels = [ws.Section(name=heading, panels=each, is_open=True) for heading, each in sections.items()]
    wide = ws.SectionLayoutSettings(columns=1, rows=len(tests))  # a row is wide: it contains a dozen images
    panels.append(ws.Section(name="Ranked lists", panels=lists, is_open=True, layout_settings=wide))
    pinned = ["run:displayName"] + [f"summary:{test}/{each}" for test in tests for each in ("mAP", "rank1")]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=panels,
        settings=ws.WorkspaceSettings(x_axis=STEP),
        runset_settings=ws.RunsetSettings(pinned_columns=pinned),
    )


def _curve(wr: Any, test: str, kind: str, title: str, x: str, y: str) -> Any:
    """Return a chart that overlays the curves of all visible runs."""
    return wr.CustomChart(
        query={"id": {}, "name": {}, "summaryTable": {"tableKey": f"{test}/{kind}_table"}},
        chart_name="wandb/line/v0",
        chart_fields={"x": x, "y": y},
        chart_strings={"title": f"{title}, {test.removeprefix('test/')}"},
    )

"""`reidlit dashboard`: a W&B workspace that shows what `logger=wandb` logs."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import wandb
from omegaconf import DictConfig
from wandb.errors import AuthenticationError

from reidlit.console import say
from reidlit.engine.loggers.wandb import STEP

# Titles of line plots, and the names that they show as a regular expression.
TRAINING = {
    "loss": "train/loss",
    "terms of the loss": "train/(?!loss|accuracy|grad_norm|images_per_second|spread|.*_distance|skipped).*",
    "accuracy in training": "train/accuracy",
    "gradient norm": "train/grad_norm",
    "learning rate": "lr-.*",
    "spread of embeddings": "train/spread",
    "distances of pairs": "train/(positive|negative)_distance",
    "images a second": "train/images_per_second",
}
VALIDATION = {"mAP": "val/mAP", "mINP": "val/mINP", "CMC": "val/rank.*"}
RETRIEVAL, VERIFICATION = ("mAP", "mINP", "rank1", "rank5", "rank10"), ("AUC", "EER", "TPR@FPR=1e-04", "TPR@FPR=1e-03")
CURVES = {"cmc": ("CMC", "rank", "CMC"), "roc": ("ROC", "log10_FPR", "TPR")}  # title, x, y


def run(cfg: DictConfig) -> None:
    """Make the workspace on W&B and say where it is.

    Raises:
        ValueError: if a setting is missing, the package is not installed, no account is set up, or W&B refuses.
    """
    entity, _, project = str(cfg.project or "").partition("/")
    if not entity or not project or "/" in project:
        raise ValueError(f"project={cfg.project} must be <entity>/<project>, as in the address of the project on W&B.")
    if not cfg.datasets:
        raise ValueError("datasets=[] names no test set: give those of the runs, such as datasets=[market1501].")
    workspace = build_workspace(entity, project, list(cfg.datasets), cfg.name)
    if not _has_account():
        raise ValueError(
            "a workspace is kept on W&B, but no account is set up: run `wandb login` or set WANDB_API_KEY."
        )
    try:
        workspace.save()
    except Exception as error:  # of private classes of W&B's
        raise ValueError(f"project={cfg.project}: W&B did not take the workspace: {error}") from error
    say(f"workspace: {workspace.url}")


def _has_account() -> bool:
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except AuthenticationError as error:
        raise ValueError(f"the account of W&B cannot be used: {error}") from error


def build_workspace(entity: str, project: str, datasets: Sequence[str], name: str = "reidlit") -> Any:
    """The definition, a `wandb_workspaces.workspaces.Workspace`; needs no network.

    Sections: training, validation, retrieval and verification of all test sets, cameras, ranked lists.

    Args:
        entity: user or team on W&B.
        project: of theirs.
        datasets: names of test sets.
        name: of the workspace.

    Raises:
        ValueError: if wandb-workspaces is not installed.
    """
    try:
        ws, wr = import_module("wandb_workspaces.workspaces"), import_module("wandb_workspaces.reports.v2")
    except ModuleNotFoundError as error:
        raise ValueError("reidlit dashboard needs wandb-workspaces: pip install 'reidlit[dashboard]'.") from error
    tests = [f"test/{dataset}" for dataset in datasets]
    panels = {
        "Training": _lines(wr, TRAINING),
        "Validation": _lines(wr, VALIDATION),
        "Retrieval": [*_bars(wr, tests, RETRIEVAL), *_curves(wr, datasets, "cmc")],
        "Verification": [*_bars(wr, tests, VERIFICATION), *_curves(wr, datasets, "roc")],
        "Cameras": [
            *(
                wr.MediaBrowser(title=f"mAP between cameras, {test}", media_keys=[f"{test}/camera_map"])
                for test in tests
            ),
            *(wr.WeavePanelSummaryTable(table_name=f"{test}/camera_pairs") for test in tests),
        ],
        "Ranked lists": [wr.WeavePanelSummaryTable(table_name=f"{test}/ranked_lists") for test in tests],
    }
    wide = ws.SectionLayoutSettings(columns=1, rows=len(tests))  # a row has a dozen images
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            ws.Section(
                name=heading,
                panels=found,
                is_open=True,
                **({"layout_settings": wide} if heading == "Ranked lists" else {}),
            )
            for heading, found in panels.items()
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP),
        runset_settings=ws.RunsetSettings(
            pinned_columns=[
                "run:displayName",
                *(f"summary:{test}/{figure}" for test in tests for figure in ("mAP", "rank1")),
            ]
        ),
    )


def _lines(wr: Any, plots: dict[str, str]) -> list[Any]:
    return [wr.LinePlot(title=title, x=STEP, metric_regex=f"^{names}$") for title, names in plots.items()]


def _bars(wr: Any, tests: Sequence[str], figures: Sequence[str]) -> list[Any]:
    return [wr.BarPlot(title=f"{figure}, {test}", metrics=[f"{test}/{figure}"]) for test in tests for figure in figures]


def _curves(wr: Any, datasets: Sequence[str], kind: str) -> list[Any]:
    """The charts that the runs log, of all runs that are shown."""
    title, x, y = CURVES[kind]
    return [
        wr.CustomChart(
            query={"id": {}, "name": {}, "summaryTable": {"tableKey": f"test/{dataset}/{kind}_table"}},
            chart_name="wandb/line/v0",
            chart_fields={"x": x, "y": y},
            chart_strings={"title": f"{title}, {dataset}"},
        )
        for dataset in datasets
    ]

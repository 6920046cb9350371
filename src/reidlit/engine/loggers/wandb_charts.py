"""Test results as W&B charts and tables."""

import math
from collections.abc import Sequence
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger

from reidlit.engine.callbacks.ranked_lists import DrawnLists
from reidlit.engine.loggers.charted_test import CAMERA_PAIRS, ChartedTest
from reidlit.visualize.curves import camera_figure, pixels
from reidlit.visualize.ranked_list import QUERY, ListedImage, framed


def show_in_wandb(logger: WandbLogger, tested: Sequence[ChartedTest], step: int) -> None:
    """Log `<prefix>/cmc`, `/roc`, `/camera_pairs`, `/camera_map` and `/ranked_lists` of each test set."""
    for test in tested:
        logger.log_metrics({f"{test.prefix}/{name}": value for name, value in _charts(test).items()}, step=step)


def _charts(tested: ChartedTest) -> dict[str, Any]:
    cmc = [[rank, float(fraction)] for rank, fraction in enumerate(tested.scores.cmc, start=1)]
    charts = {"cmc": _line(["rank", "CMC"], cmc, f"CMC, {tested.name}")}
    if (roc := tested.roc) is not None:
        rows = [
            [math.log10(fpr), _finite(tpr), _finite(fpr), _finite(threshold)]
            for fpr, tpr, threshold in zip(roc["fpr"], roc["tpr"], roc["threshold"], strict=True)
        ]
        charts["roc"] = _line(["log10_FPR", "TPR", "FPR", "threshold"], rows, f"ROC, {tested.name}")
    if (pairs := tested.camera_pairs) and tested.scores.camera_pairs is not None:
        image = pixels(camera_figure(tested.scores.camera_pairs._asdict()))
        charts["camera_pairs"] = wandb.Table(columns=[*CAMERA_PAIRS], data=pairs)
        charts["camera_map"] = wandb.Image(image, caption=f"mAP (%) between cameras, {tested.name}")
    if tested.drawn is not None and tested.drawn.lists:
        charts["ranked_lists"] = ranked_lists(tested.drawn)
    return charts


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(columns: list[str], rows: list[list[Any]], title: str) -> Any:
    """Return a line chart of the second column over the first, in which W&B overlays the compared runs."""
    x, y = columns[:2]
    return wandb.plot.line(wandb.Table(columns=[*columns], data=rows), x, y, title=title)


def ranked_lists(drawn: DrawnLists) -> wandb.Table:
    """Return a table with a row per query: its image, its scores, and the images of its list with colored frames."""
    longest = max(len(ranked.entries) for ranked in drawn.lists)
    ranks = [f"rank {rank}" for rank in range(1, longest + 1)]
    table = wandb.Table(columns=["query", "pid", "camera", "AP", "first match", "verdicts", *ranks])
    for ranked, ap, first in zip(drawn.lists, drawn.ap.tolist(), drawn.first_match.tolist(), strict=True):
        query = ranked.query
        camera = query.camid + 1 if query.camid >= 0 else None
        scores = [ap, first] if math.isfinite(ap) else [None, None]
        verdicts = " ".join(entry.verdict or "?" for entry in ranked.entries)
        images: list[wandb.Image | None] = [
            _image(entry, f"{entry.verdict} {entry.distance:.3g}", drawn) for entry in ranked.entries
        ]
        images += [None] * (longest - len(images))
        table.add_data(_image(query, "query", drawn, QUERY), query.pid, camera, *scores, verdicts, *images)
    return table


def _image(
    shown: ListedImage, caption: str, drawn: DrawnLists, colour: tuple[int, int, int] | None = None
) -> wandb.Image:
    if shown.pid >= 0:
        caption += f", id {shown.pid}"
    if shown.camid >= 0:
        caption += f", cam {shown.camid + 1}"
    return wandb.Image(framed(shown, colour, drawn.read), caption=caption, file_type="jpg")

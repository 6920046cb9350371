"""Results as W&B charts and tables."""

import math
from collections.abc import Sequence
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger

from reidlit.engine.callbacks.ranked_lists import Drawn
from reidlit.engine.tested import CAMERA_PAIRS, Tested
from reidlit.visualize.curves import camera_figure, pixels
from reidlit.visualize.ranked_list import QUERY, RankedList, Shown, framed


def show_in_wandb(logger: WandbLogger, tested: Sequence[Tested], step: int) -> None:
    """Log, for each test set, `<prefix>/cmc`, `/roc`, `/camera_pairs`, `/camera_map` and `/ranked_lists`."""
    for each in tested:
        logger.log_metrics({f"{each.prefix}/{name}": value for name, value in _shown(each).items()}, step=step)


def _shown(tested: Tested) -> dict[str, Any]:
    ranks = [[rank, float(share)] for rank, share in enumerate(tested.scores.cmc, start=1)]
    found = {"cmc": _line(["rank", "CMC"], ranks, f"CMC, {tested.name}")}
    if (roc := tested.roc) is not None:
        columns = ["log10_FPR", "TPR", "FPR", "threshold"]
        rows = [
            [math.log10(fpr), *(value if math.isfinite(value) else None for value in (tpr, fpr, threshold))]
            for fpr, tpr, threshold in zip(roc["fpr"], roc["tpr"], roc["threshold"], strict=True)
        ]
        found["roc"] = _line(columns, rows, f"ROC, {tested.name}")
    if (pairs := tested.camera_pairs) and tested.scores.camera_pairs is not None:
        found["camera_pairs"] = wandb.Table(columns=[*CAMERA_PAIRS], data=pairs)
        found["camera_map"] = wandb.Image(
            pixels(camera_figure(tested.scores.camera_pairs._asdict())),
            caption=f"mAP (%) between cameras, {tested.name}",
        )
    if tested.drawn is not None and tested.drawn.lists:
        found["ranked_lists"] = ranked_lists(tested.drawn)
    return found


def _line(columns: list[str], rows: list[list[Any]], title: str) -> Any:
    """A chart of the second column over the first, which shows the runs that are compared together."""
    x, y = columns[:2]
    return wandb.plot.line(wandb.Table(columns=[*columns], data=rows), x, y, title=title)


def ranked_lists(drawn: Drawn) -> wandb.Table:
    """A row for each query: its image, its figures, and the images of its list in frames as in `sheet`."""
    longest = max(len(ranked.entries) for ranked in drawn.lists)
    ranks = [f"rank {rank}" for rank in range(1, longest + 1)]
    table = wandb.Table(columns=["query", "pid", "camera", "AP", "first match", "verdicts", *ranks])
    for ranked, ap, first in zip(drawn.lists, drawn.ap.tolist(), drawn.first_match.tolist(), strict=True):
        verdicts = " ".join(entry.verdict or "?" for entry in ranked.entries)
        scored = [ap, first] if math.isfinite(ap) else [None, None]
        query = ranked.query
        camera = query.camid + 1 if query.camid >= 0 else None
        table.add_data(
            *(_image(query, "query", drawn, QUERY), query.pid, camera, *scored, verdicts),
            *_answers(ranked, drawn, longest),
        )
    return table


def _answers(ranked: RankedList, drawn: Drawn, longest: int) -> list[wandb.Image | None]:
    images = [_image(entry, f"{entry.verdict} {entry.distance:.3g}", drawn) for entry in ranked.entries]
    return [*images, *[None] * (longest - len(images))]


def _image(shown: Shown, caption: str, drawn: Drawn, colour: tuple[int, int, int] | None = None) -> wandb.Image:
    who = f", id {shown.pid}" if shown.pid >= 0 else ""
    camera = f", cam {shown.camid + 1}" if shown.camid >= 0 else ""
    return wandb.Image(framed(shown, colour, drawn.read), caption=f"{caption}{who}{camera}", file_type="jpg")

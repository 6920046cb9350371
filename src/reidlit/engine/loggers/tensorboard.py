"""Results as TensorBoard's pictures, text and table of runs."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from reidlit.engine.loggers.charted_test import CAMERA_PAIRS, ChartedTest
from reidlit.engine.loggers.run_name import Scalar
from reidlit.visualize.curves import camera_figure, cmc_figure, pixels, roc_figure
from reidlit.visualize.ranked_list import sheet


def show_in_tensorboard(writer: SummaryWriter, tested: Sequence[ChartedTest], step: int) -> None:
    """Log, for each test set, `<prefix>/cmc`, `/roc`, `/camera_map` and `/ranked_lists` as images, `/camera_pairs` as text."""
    for each in tested:
        images = {"cmc": pixels(cmc_figure({each.name: each.scores.cmc}))}
        if (roc := each.roc) is not None:
            images["roc"] = pixels(roc_figure({each.name: roc}))
        if (pairs := each.camera_pairs) and each.scores.camera_pairs is not None:
            images["camera_map"] = pixels(camera_figure(each.scores.camera_pairs._asdict()))
            writer.add_text(f"{each.prefix}/camera_pairs", markdown(CAMERA_PAIRS, pairs), step)
        if each.drawn is not None and each.drawn.lists:
            images["ranked_lists"] = np.asarray(sheet(each.drawn.lists, each.drawn.title, each.drawn.read))
        for name, image in images.items():
            writer.add_image(f"{each.prefix}/{name}", image, step, dataformats="HWC")
    writer.flush()


def show_settings(writer: SummaryWriter, settings: Mapping[str, Scalar], scores: Mapping[str, float]) -> None:
    """Put a run into the table of runs (HPARAMS): its settings beside its scores, which are logged as scalars too."""
    if not settings or not scores:
        return
    # `add_hparams` would put it into another run; torch has no types here.
    for summary in hparams(dict(settings), dict(scores)):  # type: ignore[no-untyped-call]
        writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
    writer.flush()


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; fractions in percent."""
    cells = [[f"{100 * cell:.1f} %" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    lines = [columns, ["---:"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""Test results as TensorBoard images, text and hyperparameter tables."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from reidlit.engine.loggers.charted_test import CAMERA_PAIRS, ChartedTest
from reidlit.engine.loggers.run_name import Scalar
from reidlit.visualize.curves import camera_figure, cmc_figure, pixels, roc_figure
from reidlit.visualize.ranked_list import sheet


def show_in_tensorboard(writer: SummaryWriter, tested: Sequence[ChartedTest], step: int) -> None:
    """Log the results of each test set.

    Logs `<prefix>/cmc`, `/roc`, `/camera_map` and `/ranked_lists` as images, and `/camera_pairs` as text.
    """
    for test in tested:
        images = {"cmc": pixels(cmc_figure({test.name: test.scores.cmc}))}
        if (roc := test.roc) is not None:
            images["roc"] = pixels(roc_figure({test.name: roc}))
        if (pairs := test.camera_pairs) and test.scores.camera_pairs is not None:
            images["camera_map"] = pixels(camera_figure(test.scores.camera_pairs._asdict()))
            writer.add_text(f"{test.prefix}/camera_pairs", markdown(CAMERA_PAIRS, pairs), step)
        if test.drawn is not None and test.drawn.lists:
            images["ranked_lists"] = np.asarray(sheet(test.drawn.lists, test.drawn.title, test.drawn.read))
        for name, image in images.items():
            writer.add_image(f"{test.prefix}/{name}", image, step, dataformats="HWC")
    writer.flush()


def show_settings(writer: SummaryWriter, settings: Mapping[str, Scalar], scores: Mapping[str, float]) -> None:
    """Add a run to the HPARAMS table, with its settings and its scores, which must also be logged as scalars."""
    if not settings or not scores:
        return
    # `SummaryWriter.add_hparams` would create another run. Torch has no types here.
    for summary in hparams(dict(settings), dict(scores)):  # type: ignore[no-untyped-call]
        writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
    writer.flush()


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, with floats formatted as percentages."""
    cells = [[f"{100 * cell:.1f} %" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    lines = [columns, ["---:"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

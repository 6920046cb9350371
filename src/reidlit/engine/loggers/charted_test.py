"""Data for charts of the results of a test set."""

from typing import NamedTuple

import numpy as np

from reidlit.engine.callbacks.ranked_lists import DrawnLists
from reidlit.metrics import Scores
from reidlit.runs.metric_values import roc_points

Row = list[str | int | float | None]
CAMERA_PAIRS = ["query camera", "gallery camera", "queries", "mAP", "rank1"]


class ChartedTest(NamedTuple):
    """Scores and ranked lists of one test set.

    Attributes:
        prefix: Prefix of the metric names, `test/<dataset>`.
        scores: Scores of the test set.
        drawn: Ranked lists of the test set; None if they were not drawn.
    """

    prefix: str
    scores: Scores
    drawn: DrawnLists | None

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.prefix.partition("/")[2]

    @property
    def roc(self) -> dict[str, list[float]] | None:
        """`fpr`, `tpr` and `threshold` of the ROC curve; None without verification or without pairs."""
        if self.scores.verification is None or not np.isfinite(self.scores.verification.curve.auc):
            return None
        return roc_points(self.scores.verification.curve)

    @property
    def camera_pairs(self) -> list[Row]:
        """Rows with the columns `CAMERA_PAIRS`, for pairs of cameras with a query; cameras are counted from 1."""
        pairs = self.scores.camera_pairs
        if pairs is None:
            return []
        return [
            [
                int(pairs.q_camids[row]) + 1,
                int(pairs.g_camids[column]) + 1,
                int(pairs.num_queries[row, column]),
                float(pairs.mAP[row, column]),
                float(pairs.rank1[row, column]),
            ]
            for row, column in np.argwhere(pairs.num_queries > 0)
        ]

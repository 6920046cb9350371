"""What a test found on one test set, as loggers show it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reidlit.engine.callbacks.ranked_lists import Drawn
from reidlit.metrics import Scores

FPRS: Sequence[float] = (10.0 ** np.linspace(-6, 0, 61)).tolist()  # of the ROC curve
Row = list[str | int | float | None]


class Tested(NamedTuple):
    """One test set.

    Attributes:
        prefix: under which its metrics are logged, `test/<dataset>`.
        scores: what was found.
        drawn: its ranked lists; None if none were drawn.
    """

    prefix: str
    scores: Scores
    drawn: Drawn | None

    @property
    def name(self) -> str:
        """Of the dataset."""
        return self.prefix.partition("/")[2]

    @property
    def roc(self) -> dict[str, list[float]] | None:
        """`fpr`, `tpr` and `threshold` at 61 points; None if verification was not asked for or there are no pairs."""
        if self.scores.verification is None or not np.isfinite(self.scores.verification.curve.auc):
            return None
        curve = self.scores.verification.curve
        return {
            "fpr": list(FPRS),
            "tpr": [curve.tpr_at(fpr) for fpr in FPRS],
            "threshold": [curve.threshold_at(fpr) for fpr in FPRS],
        }

    @property
    def camera_pairs(self) -> list[Row]:
        """Rows of the query's camera, the gallery's, queries, mAP and rank-1; only pairs with a query, cameras from 1."""
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


CAMERA_PAIRS = ["query camera", "gallery camera", "queries", "mAP", "rank1"]

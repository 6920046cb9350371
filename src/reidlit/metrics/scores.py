"""What an evaluation found."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidlit.metrics._ranking.types import Floats, Integers
from reidlit.metrics.camera_pairs import CameraPairs
from reidlit.metrics.intervals import interval
from reidlit.metrics.nearest import Nearest
from reidlit.metrics.verification import FPRS, VerificationScores

RANKS = (1, 5, 10, 20)


class Scores(NamedTuple):
    """What an evaluation found, in fractions, not percent, and averaged over the queries that have a match.

    A named tuple and no frozen dataclass, because torchmetrics rebuilds what a metric's `compute` returns.

    Attributes:
        cmc: (max_rank,) share of queries with a match among the first k + 1; `cmc[0]` is rank-1.
        mAP: Mean average precision: precision averaged over a query's matches, without interpolation. Source: Liang
            Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
        mINP: Mean inverse negative penalty, number of matches / rank of the hardest. Source: Mang Ye et al., "Deep
            Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021.
        num_valid: Queries with a match, which all averages are over.
        num_queries: All queries.
        num_no_match: Queries without a match left, which no average counts: the next two together.
        num_absent: Queries whose identity is not in the gallery.
        num_same_camera: Queries whose identity only their own camera has seen.
        has_cameras: Whether any camera is known; if not, nothing is left out as junk but a query that is in the gallery.
        ap: (num_queries,) average precision of each query, NaN without a match.
        inp: (num_queries,) inverse negative penalty of each query, NaN without a match.
        first_match: (num_queries,) rank of the first match, from 1; 0 without a match.
        num_matches: (num_queries,) number of matches.
        shot_ranks: (num_queries, repeats) ranks of the match in CUHK03's draws, which `cmc` is of; 0 without a match.
        verification: ROC and its figures, if asked for.
        camera_pairs: mAP and rank-1 of each pair of cameras, if asked for.
        nearest: The ranked lists, if asked for.
    """

    cmc: Floats
    mAP: float
    mINP: float
    num_valid: int
    num_queries: int
    num_no_match: int
    num_absent: int
    num_same_camera: int
    has_cameras: bool
    ap: Floats
    inp: Floats
    first_match: Integers
    num_matches: Integers
    shot_ranks: Integers | None = None
    verification: VerificationScores | None = None
    camera_pairs: CameraPairs | None = None
    nearest: Nearest | None = None

    def rank(self, k: int) -> float:
        """CMC at rank k, for any k: beyond the gallery it stays at the last value.

        Args:
            k: From 1; not limited by max_rank.

        Returns:
            The share of valid queries with a match among the first k.

        Raises:
            ValueError: k is below 1.
        """
        if k < 1:
            raise ValueError(f"k={k} is no rank; ranks start at 1")
        return float(self._hits(k).sum() / self.num_valid)

    def as_dict(self) -> dict[str, float]:
        """The figures that are logged."""
        figures = {"mAP": self.mAP, "mINP": self.mINP} | {f"rank{k}": self.rank(k) for k in RANKS}
        if self.verification is not None:
            curve = self.verification.curve
            figures |= {"AUC": curve.auc, "EER": curve.eer}
            figures |= {f"TPR@FPR={fpr:.0e}": curve.tpr_at(fpr) for fpr in FPRS}
        return figures | {"num_valid": self.num_valid, "num_queries": self.num_queries}

    def intervals(self, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Bootstrap confidence intervals of the logged figures, over queries.

        For AUC and TPR the queries' matches are drawn anew and the pairs of different people, of which there are very
        many, stay; the EER, which has no share of a query, gets none.

        Args:
            level: Of confidence.
            resamples: How many.
            seed: Of the generator, which is this function's own.

        Returns:
            The lower and the upper bound of each figure.
        """
        valid = self.num_matches > 0
        matches = self.num_matches[valid].astype(np.float64)
        samples: dict[str, tuple[Floats, Floats | None]] = {
            "mAP": (self.ap[valid], None),
            "mINP": (self.inp[valid], None),
        }
        samples |= {f"rank{k}": (self._hits(k), None) for k in RANKS}
        if self.verification is not None:
            samples["AUC"] = (self.verification.above[valid] * matches, matches)
            for column, fpr in enumerate(FPRS):
                accepted = self.verification.accepted[valid, column].astype(np.float64)
                samples[f"TPR@FPR={fpr:.0e}"] = (accepted, matches)
        return {name: interval(*sample, level, resamples, seed) for name, sample in samples.items()}

    def per_query(self) -> Mapping[str, NDArray[Any]]:
        """Results of each query as columns of a table: (num_queries,), and (num_queries, k) for the ranked lists."""
        columns: dict[str, NDArray[Any]] = {
            "ap": self.ap,
            "inp": self.inp,
            "first_match": self.first_match,
            "num_matches": self.num_matches,
        }
        if self.nearest is not None:
            columns |= {"nearest": self.nearest.indices, "distance": self.nearest.distance}
        return columns

    def _hits(self, k: int) -> Floats:
        """(num_valid,) whether each valid query has a match among the first k, or in which share of the draws."""
        ranks = self.first_match[:, None] if self.shot_ranks is None else self.shot_ranks
        return np.asarray((ranks[self.num_matches > 0] <= k).mean(axis=1))

    def __repr__(self) -> str:
        """The logged figures; the arrays would fill pages."""
        return f"Scores({', '.join(f'{name}={value:.4g}' for name, value in self.as_dict().items())})"

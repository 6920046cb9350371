"""Results of a retrieval evaluation."""

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
    """Scores of a retrieval evaluation, as returned by `evaluate`.

    All scores are fractions from 0 to 1, not percentages. Averages are taken over the queries that have a match.

    Attributes:
        cmc: (max_rank,) cumulative matching characteristic: `cmc[k - 1]` is the fraction of queries with a match among
            the first k gallery entries, so `cmc[0]` is rank-1.
        mAP: Mean average precision, without interpolation. Source: Liang Zheng et al., "Scalable Person
            Re-identification: A Benchmark", ICCV 2015.
        mINP: Mean inverse negative penalty, the number of matches divided by the rank of the last match. Source: Mang
            Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021.
        num_valid: Number of queries with a match.
        num_queries: Number of all queries.
        num_no_match: Number of queries without a match, the sum of `num_absent` and `num_same_camera`.
        num_absent: Number of queries with an identity that is missing from the gallery.
        num_same_camera: Number of queries with an identity that the gallery contains from the query's camera only.
        has_cameras: Whether any camera is known. If not, no gallery entry is junk, except a query that is also in the
            gallery.
        ap: (num_queries,) average precision of each query; NaN without a match.
        inp: (num_queries,) inverse negative penalty of each query; NaN without a match.
        first_match: (num_queries,) 1-based rank of the first match; 0 without a match.
        num_matches: (num_queries,) number of matches of each query.
        shot_ranks: (num_queries, repeats) 1-based rank of the match in each random gallery of the CUHK03 protocol; 0
            without a match. None for other protocols.
        verification: ROC curve, AUC and EER, if requested.
        camera_pairs: mAP and rank-1 of each pair of cameras, if requested.
        nearest: Ranked lists, if requested.

    Example:
        >>> import numpy as np
        >>> from reidlit import evaluate
        >>> distance = np.array([[0.1, 0.4, 0.9], [0.2, 0.6, 0.7]])
        >>> scores = evaluate(None, None, [0, 1], [0, 1, 0], distance=distance)
        >>> scores.cmc[:3], scores.rank(1)
        (array([0.5, 1. , 1. ]), 0.5)
        >>> scores.first_match, round(scores.as_dict()["mAP"], 3)
        (array([1, 2]), 0.667)
    """

    # A named tuple rather than a frozen dataclass, because torchmetrics rebuilds the result of `compute`.

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
        """Return the CMC at rank k: the fraction of queries with a match among the first k gallery entries.

        Args:
            k: Rank, at least 1. It may exceed `max_rank` and the size of the gallery.

        Raises:
            ValueError: If k is less than 1.
        """
        if k < 1:
            raise ValueError(f"k={k} is invalid: must be at least 1.")
        return float(self._hits(k).sum() / self.num_valid)

    def as_dict(self) -> dict[str, float]:
        """Return the scalar metrics by name, as they are logged: `mAP`, `mINP`, `rank1`, ..., `num_queries`."""
        metrics = {"mAP": self.mAP, "mINP": self.mINP} | {f"rank{k}": self.rank(k) for k in RANKS}
        if self.verification is not None:
            curve = self.verification.curve
            metrics |= {"AUC": curve.auc, "EER": curve.eer}
            metrics |= {f"TPR@FPR={fpr:.0e}": curve.tpr_at(fpr) for fpr in FPRS}
        return metrics | {"num_valid": self.num_valid, "num_queries": self.num_queries}

    def intervals(self, level: float = 0.95, resamples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Compute bootstrap confidence intervals of the metrics in `as_dict` by resampling queries.

        For AUC and TPR, only the matches of the queries are resampled; the many pairs of different identities stay
        fixed. The EER has no interval, because it is not an average over queries.

        Args:
            level: Confidence level, between 0 and 1.
            resamples: Number of bootstrap resamples, at least 1.
            seed: Random seed; NumPy's global generator is not used.

        Returns:
            Lower and upper bound of each metric by name.

        Raises:
            ValueError: If `level` or `resamples` is out of range.
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
        """Return per-query results as table columns of shape (num_queries,), or (num_queries, k) for ranked lists."""
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
        """Return, for each valid query, the fraction of its rankings with a match among the first k."""
        ranks = self.first_match[:, None] if self.shot_ranks is None else self.shot_ranks
        return np.asarray((ranks[self.num_matches > 0] <= k).mean(axis=1))

    def __repr__(self) -> str:
        """Return the scalar metrics only, because the arrays are long."""
        return f"Scores({', '.join(f'{name}={value:.4g}' for name, value in self.as_dict().items())})"

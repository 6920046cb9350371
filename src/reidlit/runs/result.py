"""Results of a run, and their flat metric names in `metrics.json` and loggers.

This is the only module that builds or parses names such as `test/market1501/mAP`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

Stage = Literal["untrained", "val", "test"]
HEADLINES = ("mAP", "mA")  # metrics that sweeps and checkpoints maximize, for retrieval and for attribute recognition


def metric_name(stage: Stage, metric: str, dataset: str | None = None) -> str:
    """Return the flat name of a metric, such as `val/mAP` or `test/market1501/rank1`."""
    return "/".join((stage, metric) if dataset is None else (stage, dataset, metric))


@dataclass(frozen=True)
class TestResult:
    """Scores of one evaluation.

    Attributes:
        stage: `test`, `untrained` (a test before training) or `val`.
        dataset: Name of the test set; None for validation.
        metrics: Fractions, counts, curves and the protocol by name, as in `metrics.json`; None for undefined values.
    """

    __test__: ClassVar[bool] = False  # not a test class for pytest

    stage: Stage
    dataset: str | None
    metrics: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """Common prefix of the flat names, such as `test/market1501`."""
        return self.stage if self.dataset is None else f"{self.stage}/{self.dataset}"

    @property
    def headline(self) -> str | None:
        """Name of the metric that a sweep maximizes, or None."""
        return next((name for name in HEADLINES if name in self.metrics), None)

    @property
    def score(self) -> float | None:
        """Value of the headline metric; None if it is missing or undefined."""
        value = self.metrics.get(self.headline) if self.headline else None
        return None if value is None else float(value)

    @property
    def protocol(self) -> str | None:
        """Description of the evaluation in one line; None if it was not recorded."""
        return self.metrics.get("protocol")

    def named(self, metric: str) -> str:
        """Return the flat name of a metric of this result."""
        return metric_name(self.stage, metric, self.dataset)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics by their flat names."""
        return {self.named(metric): value for metric, value in self.metrics.items()}


@dataclass(frozen=True)
class RunResult:
    """All results of a run.

    Attributes:
        tests: Results on the test sets.
        validation: Result on the validation set, or None.
        untrained: Test results before training, if requested.
    """

    tests: tuple[TestResult, ...] = ()
    validation: TestResult | None = None
    untrained: tuple[TestResult, ...] = ()

    def __iter__(self) -> Iterator[TestResult]:
        """Iterate over all results in chronological order."""
        yield from self.untrained
        if self.validation is not None:
            yield self.validation
        yield from self.tests

    @property
    def scored(self) -> TestResult | None:
        """Result that a sweep maximizes: validation if available, otherwise the first test set."""
        candidates = (self.validation, *self.tests)
        return next((result for result in candidates if result is not None and result.headline), None)

    @property
    def score(self) -> float | None:
        """Value that a sweep maximizes, or None."""
        return None if self.scored is None else self.scored.score

    def to_json(self) -> dict[str, Any]:
        """Return all metrics by their flat names, as `metrics.json` stores them."""
        return {name: value for result in self for name, value in result.to_json().items()}

    @classmethod
    def from_json(cls, metrics: Mapping[str, Any]) -> Self:
        """Parse the output of `to_json`; names without a known stage are ignored."""
        grouped: dict[tuple[Stage, str | None], dict[str, Any]] = {}
        for name, value in metrics.items():
            stage, _, rest = name.partition("/")
            if stage == "val":
                grouped.setdefault(("val", None), {})[rest] = value
            elif stage in ("test", "untrained"):
                dataset, _, metric = rest.partition("/")
                grouped.setdefault((cast("Stage", stage), dataset), {})[metric] = value
        results = [TestResult(stage, dataset, values) for (stage, dataset), values in grouped.items()]
        return cls(
            tests=tuple(result for result in results if result.stage == "test"),
            validation=next((result for result in results if result.stage == "val"), None),
            untrained=tuple(result for result in results if result.stage == "untrained"),
        )

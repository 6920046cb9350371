"""Results of a run as objects, and the flat names under which `metrics.json` and loggers keep them.

This is the only module that knows names such as `test/market1501/mAP`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

Stage = Literal["untrained", "val", "test"]
HEADLINES = ("mAP", "mA")  # what sweeps and checkpoints maximize: mAP of retrieval, mA of attribute recognition


def metric_name(stage: Stage, metric: str, dataset: str | None = None) -> str:
    """Return the flat name of one metric, such as `val/mAP` or `test/market1501/rank1`."""
    return "/".join((stage, metric) if dataset is None else (stage, dataset, metric))


@dataclass(frozen=True)
class TestResult:
    """Scores of one evaluation.

    Attributes:
        stage: `test`, `untrained` (a test before training), or `val`.
        dataset: Name of the test set; None for validation, which has a single set.
        metrics: Values by name, as `metrics.json` holds them: fractions, counts, curves, the protocol; None for a value that
            cannot be computed.
    """

    __test__: ClassVar[bool] = False  # not a test class for pytest

    stage: Stage
    dataset: str | None
    metrics: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """Common part of the flat names, such as `test/market1501`."""
        return self.stage if self.dataset is None else f"{self.stage}/{self.dataset}"

    @property
    def headline(self) -> str | None:
        """Name of the metric that a sweep maximizes, if there is one."""
        return next((name for name in HEADLINES if name in self.metrics), None)

    @property
    def score(self) -> float | None:
        """Value of the headline metric; None if there is none or it cannot be computed."""
        value = self.metrics.get(self.headline) if self.headline else None
        return None if value is None else float(value)

    @property
    def protocol(self) -> str | None:
        """Evaluation conditions in one line; None where they are not recorded."""
        return self.metrics.get("protocol")

    def named(self, metric: str) -> str:
        """Return the flat name of a metric of this result."""
        return metric_name(self.stage, metric, self.dataset)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics by their flat names."""
        return {self.named(metric): value for metric, value in self.metrics.items()}


@dataclass(frozen=True)
class RunResult:
    """Everything that a run measured.

    Attributes:
        tests: One result for each test set.
        validation: Result on the validation set, if the run had one.
        untrained: Test results before training, if they were asked for.
    """

    tests: tuple[TestResult, ...] = ()
    validation: TestResult | None = None
    untrained: tuple[TestResult, ...] = ()

    def __iter__(self) -> Iterator[TestResult]:
        """Iterate over all results in the order in which they were measured."""
        yield from self.untrained
        if self.validation is not None:
            yield self.validation
        yield from self.tests

    @property
    def scored(self) -> TestResult | None:
        """Result that a sweep maximizes: validation if there is one, else the first test set."""
        candidates = (self.validation, *self.tests)
        return next((result for result in candidates if result is not None and result.headline), None)

    @property
    def score(self) -> float | None:
        """Headline value of `scored`."""
        return None if self.scored is None else self.scored.score

    def to_json(self) -> dict[str, Any]:
        """Return all metrics by their flat names, as `metrics.json` stores them."""
        return {name: value for result in self for name, value in result.to_json().items()}

    @classmethod
    def from_json(cls, metrics: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned; names of no stage are ignored."""
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

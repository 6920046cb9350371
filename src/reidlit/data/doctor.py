"""Dataset checks that run before training and report errors, warnings and notes."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from reidlit.data.datamodule import ReIDDataModule, Split, Statistics, count
from reidlit.data.image_statistics import PooledPixels, Sizes, read_all, sizes
from reidlit.data.sample import Sample

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
SMALL = 32  # minimum height in pixels at which a person is recognizable

_UNKNOWN_CAMERA = -1
# Python decodes bytes that are not UTF-8 as surrogates.
_NAMES: tuple[tuple[Severity, str, str, str, str], ...] = (
    ("error", "name_not_utf8", "[\ud800-\udfff]", "that are not valid UTF-8", "Result tables cannot store them"),
    ("warning", "name_with_control", "[\x00-\x1f\x7f-\x9f]", "with control characters", "They break text files"),
)
_COPIES: tuple[tuple[Severity, str, str, str], ...] = (
    ("warning", "two_identities", "labeled with several identities", " Their labels contradict each other."),
    ("warning", "two_splits", "in several splits", " They leak training images or queries into the test."),
    ("note", "copies", "repeated within a split", ""),
)

Listed = Mapping[Split, Sequence[Sample]]


class Entry(NamedTuple):
    """Single case of a finding: its subject and the files concerned."""

    about: str
    paths: tuple[str, ...]


class Finding(NamedTuple):
    """Problem found in a dataset.

    Attributes:
        severity: "error" if training or testing would fail or be meaningless, "warning" if scores would be misleading,
            "note" if it may be intended.
        kind: Machine-readable name.
        message: One or two sentences for the user.
        entries: All cases.
    """

    severity: Severity
    kind: str
    message: str
    entries: tuple[Entry, ...] = ()


class Occurrence(NamedTuple):
    """Occurrence of an image file in a split."""

    path: str
    split: Split
    pid: int
    camid: int


@dataclass(frozen=True)
class Examination:
    """Result of the checks of a dataset.

    Attributes:
        samples: Samples of each split that can be listed.
        published: Published sizes of these splits; unknown ones are missing.
        findings: Findings, errors first.
        sizes: Image sizes of each split; empty if no images were read.
        pixels: Color statistics of the training images, or `None` if none were read.
    """

    samples: dict[Split, list[Sample]]
    published: dict[Split, Statistics]
    findings: list[Finding]
    sizes: dict[Split, Sizes]
    pixels: PooledPixels | None

    def number(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return all results as JSON-compatible types."""
        splits = {}
        for split, samples in self.samples.items():
            published, extent = self.published.get(split), self.sizes.get(split)
            splits[split] = {
                **count(samples)._asdict(),
                "published": published._asdict() if published else None,
                "sizes": {name: spread._asdict() for name, spread in extent._asdict().items()} if extent else None,
            }
        findings = [
            {**finding._asdict(), "entries": [entry._asdict() for entry in finding.entries]}
            for finding in self.findings
        ]
        pixels = {"mean": self.pixels.mean, "std": self.pixels.std} if self.pixels else None
        return {"splits": splits, "training_pixels": pixels, "findings": findings}


def examine(datamodule: ReIDDataModule, decode: bool = True) -> Examination:
    """Check a dataset before training.

    Args:
        datamodule: Data module to check; its `prepare_data` must have been called.
        decode: Whether to read every image. If False, only names and labels are checked and no file is opened.

    Returns:
        The results. Splits that cannot be listed are reported as findings.
    """
    samples, findings = _list_splits(datamodule)
    junk = set(datamodule.junk_pids)
    paths = {split: dict.fromkeys(_all_files(listed)) for split, listed in samples.items()}
    all_paths = dict.fromkeys(path for group in paths.values() for path in group)
    contents = read_all(all_paths if decode else (), datamodule.read, pooled=paths.get("train", ()))
    readable = {split: [contents.extent[p] for p in group if p in contents.extent] for split, group in paths.items()}
    published = {split: size for split, size in datamodule.published().items() if split in samples}
    for reported in (
        _size_differences(samples, published),
        _training_identities(samples, junk) if datamodule.labels_identities else (),
        _unmatched_queries(samples),
        _shared_identities(samples, junk) if datamodule.labels_identities else (),
        _names(all_paths),
        _unreadable(contents.unreadable),
        _odd_sizes(contents.extent),
        _copies(samples, contents.digests),
    ):
        findings += reported
    return Examination(
        samples,
        published,
        sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)),
        {split: sizes(group) for split, group in readable.items() if group},
        contents.pixels if contents.pixels.count else None,
    )


def files(sample: Sample) -> tuple[str, ...]:
    """Return the image files of a sample: a single one, or the frames of a tracklet."""
    return (sample.path,) if isinstance(sample.path, str) else sample.path


def _list_splits(datamodule: ReIDDataModule) -> tuple[dict[Split, list[Sample]], list[Finding]]:
    samples: dict[Split, list[Sample]] = {}
    failed: dict[str, list[Split]] = defaultdict(list)
    for split in datamodule.splits:
        try:
            samples[split] = datamodule.listed(split)
        except (OSError, ValueError) as error:
            failed[str(error)].append(split)
    return samples, [
        Finding("error", "not_listed", f"{', '.join(splits)}: {message}") for message, splits in failed.items()
    ]


def _size_differences(samples: Listed, published: Mapping[Split, Statistics]) -> Iterator[Finding]:
    for split, expected in published.items():
        actual = count(samples[split])
        if not actual.agrees(expected):
            differences = ", ".join(
                f"{name} {number} instead of {expected_number}"
                for name, number, expected_number in zip(actual._fields, actual, expected, strict=True)
                if expected_number not in (number, None)
            )
            yield Finding("warning", "not_as_published", f"{split} differs from the published size: {differences}.")


def _training_identities(samples: Listed, junk: set[int]) -> Iterator[Finding]:
    if "train" not in samples:
        return
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples["train"]:
        if sample.pid not in junk:
            by_pid[sample.pid].append(sample)
    if len(by_pid) < 2:
        message = f"training identities without junk: {len(by_pid)}. At least two are required."
        yield Finding("error", "too_few_identities", message)
    single = {pid: group for pid, group in by_pid.items() if len(group) == 1}
    if single:
        message = f"training identities with a single image or tracklet: {len(single)}. They form no positive pairs."
        yield Finding("note", "one_image", message, _by_identity(single))
    one_camera = {pid: group for pid, group in by_pid.items() if len(group) > 1 and _cameras(group) == 1}
    if one_camera:
        message = f"training identities seen by a single camera: {len(one_camera)}. They form no cross-camera pairs."
        yield Finding("note", "one_camera", message, _by_identity(one_camera))


def _cameras(samples: Sequence[Sample]) -> int:
    return len({sample.camid for sample in samples if sample.camid >= 0})


def _by_identity(groups: Mapping[int, Sequence[Sample]]) -> tuple[Entry, ...]:
    return tuple(Entry(f"identity {pid}", _all_files(group)) for pid, group in sorted(groups.items()))


def _all_files(samples: Iterable[Sample]) -> tuple[str, ...]:
    return tuple(path for sample in samples for path in files(sample))


def _unmatched_queries(samples: Listed) -> Iterator[Finding]:
    """Report queries without a possible match; gallery entries from the query's own camera are junk."""
    if "query" not in samples or "gallery" not in samples:
        return
    cameras: dict[int, set[int]] = defaultdict(set)
    for sample in samples["gallery"]:
        cameras[sample.pid].add(sample.camid)
    absent = [query for query in samples["query"] if query.pid not in cameras]
    same_camera = [
        query
        for query in samples["query"]
        if query.pid in cameras and query.camid != _UNKNOWN_CAMERA and cameras[query.pid] == {query.camid}
    ]
    severity: Severity = "error" if len(absent) + len(same_camera) == len(samples["query"]) else "warning"
    for kind, unmatched, reason in (
        ("query_absent", absent, "with an identity that is missing from the gallery"),
        ("query_same_camera", same_camera, "with gallery images only from their own camera"),
    ):
        if unmatched:
            message = f"queries {reason}: {len(unmatched)} of {len(samples['query'])}. They have no possible match."
            entries = tuple(Entry(f"identity {query.pid}", files(query)) for query in unmatched)
            yield Finding(severity, kind, message, entries)
    if not _cameras(samples["query"]) or not _cameras(samples["gallery"]):
        message = "cameras are unknown in query or gallery. Near-duplicates of a query count as matches."
        yield Finding("note", "no_cameras", message)


def _shared_identities(samples: Listed, junk: set[int]) -> Iterator[Finding]:
    first: dict[bool, dict[int, Sample]] = {True: {}, False: {}}
    for split, listed in samples.items():
        for sample in listed:
            first[split == "train"].setdefault(sample.pid, sample)
    shared = sorted((first[True].keys() & first[False].keys()) - junk)
    if shared:
        message = f"identities in both training and test: {len(shared)}. Scores would be too high."
        entries = tuple(Entry(f"identity {pid}", _all_files(group[pid] for group in first.values())) for pid in shared)
        yield Finding("warning", "shared_identities", message, entries)


def _names(paths: Iterable[str]) -> Iterator[Finding]:
    for severity, kind, characters, description, consequence in _NAMES:
        pattern = re.compile(characters)
        entries = tuple(Entry("name", (path,)) for path in paths if pattern.search(path))
        if entries:
            message = f"file names {description}: {len(entries)}. {consequence}; rename the files."
            yield Finding(severity, kind, message, entries)


def _unreadable(unreadable: Mapping[str, str]) -> Iterator[Finding]:
    if unreadable:
        message = f"unreadable images: {len(unreadable)}. Replace or remove them."
        entries = tuple(Entry(reason, (path,)) for path, reason in unreadable.items())
        yield Finding("error", "unreadable", message, entries)


def _odd_sizes(extent: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    small = [path for path, (height, _) in extent.items() if height < SMALL]
    wide = [path for path, (height, width) in extent.items() if width > height]
    for kind, paths, message in (
        ("small", small, f"less than {SMALL} pixels high"),
        ("wide", wide, "wider than tall"),
    ):
        if paths:
            entries = tuple(Entry("{} x {}".format(*extent[path]), (path,)) for path in paths)
            yield Finding("note", kind, f"images {message}: {len(paths)}.", entries)


def _copies(samples: Listed, digests: Mapping[str, bytes]) -> Iterator[Finding]:
    """Report images that occur several times, by pixels or, if images were not read, by path."""
    occurrences: dict[bytes | str, list[Occurrence]] = defaultdict(list)
    for split, listed in samples.items():
        for sample in listed:
            for path in files(sample):
                occurrences[digests.get(path, path)].append(Occurrence(path, split, sample.pid, sample.camid))
    entries: dict[str, list[Entry]] = defaultdict(list)
    for group in occurrences.values():
        if len(group) > 1 and (kind := _kind_of_copies(group)):
            about = ", ".join(dict.fromkeys(f"{one.split} identity {one.pid}" for one in group))
            entries[kind].append(Entry(about, tuple(dict.fromkeys(one.path for one in group))))
    for severity, kind, description, consequence in _COPIES:
        if entries[kind]:
            message = f"identical images {description}: {len(entries[kind])}.{consequence}"
            yield Finding(severity, kind, message, tuple(entries[kind]))


def _kind_of_copies(group: Sequence[Occurrence]) -> str | None:
    """Return the kind of finding that the occurrences of an image constitute, or `None`."""
    if len({one.pid for one in group}) > 1:
        return "two_identities"
    splits = Counter(one.split for one in group)
    cameras = {one.camid for one in group}
    is_junk = len(cameras) == 1 and _UNKNOWN_CAMERA not in cameras  # the protocol ignores the query's own camera
    if len(splits) > 1 and ("train" in splits or not is_junk):
        return "two_splits"
    return "copies" if max(splits.values()) > 1 or len({one.path for one in group}) > 1 else None

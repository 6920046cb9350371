"""What is wrong with a dataset, and what is odd, before anything is trained on it."""

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
SMALL = 32  # pixels of height below which a person can hardly be told from another

_UNKNOWN_CAMERA = -1
# Python makes surrogates of bytes that are not UTF-8.
_NAMES: tuple[tuple[Severity, str, str, str, str], ...] = (
    ("error", "name_not_utf8", "[\ud800-\udfff]", "not valid UTF-8", "No table of results can hold them"),
    ("warning", "name_with_control", "[\x00-\x1f\x7f-\x9f]", "with control characters", "They break lists"),
)
_COPIES: tuple[tuple[Severity, str, str, str], ...] = (
    ("warning", "two_identities", "under more than one identity", " Their labels contradict each other."),
    ("warning", "two_splits", "in two splits", " What is trained on or searched for is found again."),
    ("note", "copies", "more than once in the same role", ""),
)

Listed = Mapping[Split, Sequence[Sample]]


class Entry(NamedTuple):
    """One case of a finding: what it is about, and the files that it concerns."""

    about: str
    paths: tuple[str, ...]


class Finding(NamedTuple):
    """Something that the user should know.

    Attributes:
        severity: "error": training or testing would fail or mean nothing; "warning": scores would mislead; "note": it may
            be meant so.
        kind: its name, for programs.
        message: a sentence or two.
        entries: all cases.
    """

    severity: Severity
    kind: str
    message: str
    entries: tuple[Entry, ...] = ()


class Place(NamedTuple):
    """One listing of an image file."""

    path: str
    split: Split
    pid: int
    camid: int


@dataclass(frozen=True)
class Examination:
    """What was found out about a dataset.

    Attributes:
        samples: the splits that can be listed.
        published: their published sizes, where known.
        findings: errors first.
        sizes: of the images of each split that can be read; empty if none were read.
        pixels: the colours of the training images, if any were read.
    """

    samples: dict[Split, list[Sample]]
    published: dict[Split, Statistics]
    findings: list[Finding]
    sizes: dict[Split, Sizes]
    pixels: PooledPixels | None

    def number(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """All of it in types that JSON knows."""
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
    """Look a dataset over.

    Args:
        datamodule: Whose splits; its data is prepared already.
        decode: Whether to read every image. Else only names and labels are looked at, and no file is opened.

    Returns:
        What was found. Splits that cannot be listed are among the findings.
    """
    samples, findings = _list_splits(datamodule)
    junk = set(datamodule.junk_pids)
    paths = {split: dict.fromkeys(_all_files(listed)) for split, listed in samples.items()}
    every = dict.fromkeys(path for group in paths.values() for path in group)
    contents = read_all(every if decode else (), datamodule.read, pooled=paths.get("train", ()))
    readable = {split: [contents.extent[p] for p in group if p in contents.extent] for split, group in paths.items()}
    published = {split: size for split, size in datamodule.published().items() if split in samples}
    for found in (
        _size_differences(samples, published),
        _training_identities(samples, junk) if datamodule.labels_identities else (),
        _unmatched_queries(samples),
        _shared_identities(samples, junk) if datamodule.labels_identities else (),
        _names(every),
        _unreadable(contents.unreadable),
        _odd_sizes(contents.extent),
        _copies(samples, contents.digests),
    ):
        findings += found
    return Examination(
        samples,
        published,
        sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)),
        {split: sizes(group) for split, group in readable.items() if group},
        contents.pixels if contents.pixels.count else None,
    )


def files(sample: Sample) -> tuple[str, ...]:
    """The image files of a sample: one, or the frames of a tracklet."""
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
        have = count(samples[split])
        if not have.agrees(expected):
            differences = ", ".join(
                f"{name} {number} instead of {right}"
                for name, number, right in zip(have._fields, have, expected, strict=True)
                if right not in (number, None)
            )
            yield Finding("warning", "not_as_published", f"{split} is not as published: {differences}.")


def _training_identities(samples: Listed, junk: set[int]) -> Iterator[Finding]:
    if "train" not in samples:
        return
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples["train"]:
        if sample.pid not in junk:
            by_pid[sample.pid].append(sample)
    if len(by_pid) < 2:
        message = f"training identities without the junk: {len(by_pid)}. At least two are needed, to be told apart."
        yield Finding("error", "too_few_identities", message)
    single = {pid: group for pid, group in by_pid.items() if len(group) == 1}
    if single:
        message = f"training identities with one image or tracklet only: {len(single)}. Losses on pairs learn nothing from them."
        yield Finding("note", "one_image", message, _by_identity(single))
    alone = {pid: group for pid, group in by_pid.items() if len(group) > 1 and _cameras(group) == 1}
    if alone:
        message = f"training identities of one camera only: {len(alone)}. They teach nothing about changes of camera."
        yield Finding("note", "one_camera", message, _by_identity(alone))


def _cameras(samples: Sequence[Sample]) -> int:
    return len({sample.camid for sample in samples if sample.camid >= 0})


def _by_identity(groups: Mapping[int, Sequence[Sample]]) -> tuple[Entry, ...]:
    return tuple(Entry(f"identity {pid}", _all_files(group)) for pid, group in sorted(groups.items()))


def _all_files(samples: Iterable[Sample]) -> tuple[str, ...]:
    return tuple(path for sample in samples for path in files(sample))


def _unmatched_queries(samples: Listed) -> Iterator[Finding]:
    """Queries that no gallery entry can answer: entries of the query's own camera are junk."""
    if "query" not in samples or "gallery" not in samples:
        return
    seen: dict[int, set[int]] = defaultdict(set)
    for sample in samples["gallery"]:
        seen[sample.pid].add(sample.camid)
    absent = [query for query in samples["query"] if query.pid not in seen]
    same = [
        query
        for query in samples["query"]
        if query.pid in seen and query.camid != _UNKNOWN_CAMERA and seen[query.pid] == {query.camid}
    ]
    severity: Severity = "error" if len(absent) + len(same) == len(samples["query"]) else "warning"
    for kind, unmatched, reason in (
        ("query_absent", absent, "whose identity is not in the gallery"),
        ("query_same_camera", same, "whose identity the gallery has from their own camera only"),
    ):
        if unmatched:
            message = f"queries {reason}: {len(unmatched)} of {len(samples['query'])}. They can never match."
            entries = tuple(Entry(f"identity {query.pid}", files(query)) for query in unmatched)
            yield Finding(severity, kind, message, entries)
    if not _cameras(samples["query"]) or not _cameras(samples["gallery"]):
        message = "no cameras are known in query or gallery: images taken right after a query count as matches."
        yield Finding("note", "no_cameras", message)


def _shared_identities(samples: Listed, junk: set[int]) -> Iterator[Finding]:
    first: dict[bool, dict[int, Sample]] = {True: {}, False: {}}
    for split, listed in samples.items():
        for sample in listed:
            first[split == "train"].setdefault(sample.pid, sample)
    shared = sorted((first[True].keys() & first[False].keys()) - junk)
    if shared:
        message = f"identities in training and in test: {len(shared)}. The scores are of people that the model knows."
        entries = tuple(Entry(f"identity {pid}", _all_files(group[pid] for group in first.values())) for pid in shared)
        yield Finding("warning", "shared_identities", message, entries)


def _names(paths: Iterable[str]) -> Iterator[Finding]:
    for severity, kind, letters, what, why in _NAMES:
        pattern = re.compile(letters)
        odd = tuple(Entry("name", (path,)) for path in paths if pattern.search(path))
        if odd:
            yield Finding(severity, kind, f"names {what}: {len(odd)}. {why}; rename the files.", odd)


def _unreadable(unreadable: Mapping[str, str]) -> Iterator[Finding]:
    if unreadable:
        message = f"unreadable images: {len(unreadable)}. Replace them or take them out."
        entries = tuple(Entry(reason, (path,)) for path, reason in unreadable.items())
        yield Finding("error", "unreadable", message, entries)


def _odd_sizes(extent: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    small = [path for path, (height, _) in extent.items() if height < SMALL]
    wide = [path for path, (height, width) in extent.items() if width > height]
    for kind, paths, message in (
        ("small", small, f"less than {SMALL} pixels high"),
        ("wide", wide, "wider than high"),
    ):
        if paths:
            entries = tuple(Entry("{} x {}".format(*extent[path]), (path,)) for path in paths)
            yield Finding("note", kind, f"images {message}: {len(paths)}.", entries)


def _copies(samples: Listed, digests: Mapping[str, bytes]) -> Iterator[Finding]:
    """The same picture in several places; where its content is unknown, the same file."""
    places: dict[bytes | str, list[Place]] = defaultdict(list)
    for split, listed in samples.items():
        for sample in listed:
            for path in files(sample):
                places[digests.get(path, path)].append(Place(path, split, sample.pid, sample.camid))
    found: dict[str, list[Entry]] = defaultdict(list)
    for group in places.values():
        if len(group) > 1 and (kind := _relation(group)):
            about = ", ".join(dict.fromkeys(f"{place.split} identity {place.pid}" for place in group))
            found[kind].append(Entry(about, tuple(dict.fromkeys(place.path for place in group))))
    for severity, kind, what, why in _COPIES:
        if found[kind]:
            yield Finding(severity, kind, f"pictures {what}: {len(found[kind])}.{why}", tuple(found[kind]))


def _relation(group: Sequence[Place]) -> str | None:
    """What it means that these places hold the same picture."""
    if len({place.pid for place in group}) > 1:
        return "two_identities"
    splits = Counter(place.split for place in group)
    cameras = {place.camid for place in group}
    is_junk = len(cameras) == 1 and _UNKNOWN_CAMERA not in cameras  # what the protocol leaves out of a query's gallery
    if len(splits) > 1 and ("train" in splits or not is_junk):
        return "two_splits"
    return "copies" if max(splits.values()) > 1 or len({place.path for place in group}) > 1 else None

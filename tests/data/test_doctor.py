"""Dataset checks, on generated files."""

import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from helpers.datasets import loading
from reidlit.data.datamodule import ReIDDataModule, Statistics
from reidlit.data.decode import MAX_PIXELS
from reidlit.data.doctor import examine
from reidlit.data.sample import Sample


class ListedSamples(ReIDDataModule):
    """Dataset of explicit samples."""

    name = folder = licence = paper = how_to_obtain = "listed"
    junk_pids = (0,)

    def __init__(self, root, **splits):
        super().__init__(str(root), **loading())
        self.directory.mkdir(exist_ok=True)
        self.listed_samples = splits
        self.splits = tuple(splits)

    def samples(self, split):
        return self.listed_samples[split]


def picture(path, seed, height=40, width=20):
    """Write an image of noise that is unique for each seed, and return its path."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return str(path)


@pytest.fixture
def sample(tmp_path):
    """Return a function that creates samples, each with a unique image unless a path is given."""
    number = iter(range(1000))

    def make(pid, camid, path=None, **size):
        index = next(number)
        return Sample(path or picture(tmp_path / f"{index}.png", index, **size), pid, camid)

    return make


def findings_by_kind(examination):
    return {finding.kind: finding for finding in examination.findings}


def test_valid_dataset_has_no_findings(sample, tmp_path):
    train = [sample(pid, camid) for pid in (1, 2) for camid in (0, 1)]
    query = [sample(3, 0)]
    gallery = [sample(3, 1), sample(0, 1), sample(0, 0), *query]  # with distractors, and the query itself as junk
    found = examine(ListedSamples(tmp_path, train=train, query=query, gallery=gallery))
    assert found.findings == []
    assert json.loads(json.dumps(found.as_dict()))["splits"]["gallery"] == {
        "identities": 2,
        "images": 4,
        "cameras": 2,
        "published": None,
        "sizes": {
            "height": {"min": 40, "median": 40, "max": 40},
            "width": {"min": 20, "median": 20, "max": 20},
            "aspect": {"min": 2, "median": 2, "max": 2},
        },
    }


def test_identities_with_one_image_or_camera_are_reported(sample, tmp_path):
    train = [sample(1, 0), sample(2, 1), sample(2, 1), sample(3, 0), sample(3, 2), sample(0, 5), sample(4, -1)]
    train.append(sample(4, -1))
    found = findings_by_kind(examine(ListedSamples(tmp_path, train=train)))
    assert set(found) == {"one_image", "one_camera"}
    assert {finding.severity for finding in found.values()} == {"note"}
    assert found["one_image"].entries == (("identity 1", (train[0].path,)),)
    assert found["one_camera"].entries == (("identity 2", (train[1].path, train[2].path)),)
    (few,) = examine(ListedSamples(tmp_path, train=[sample(1, 0), sample(1, 1), sample(0, 1)])).findings
    assert (few.severity, few.kind) == ("error", "too_few_identities")
    assert " 1." in few.message


def test_identities_in_training_and_test_are_reported(sample, tmp_path):
    train = [sample(pid, camid) for pid in (0, 1, 2) for camid in (0, 1)]
    query, gallery = [sample(2, 0), sample(3, 0)], [sample(3, 1), sample(2, 1), sample(0, 1)]
    (shared,) = examine(ListedSamples(tmp_path, train=train, query=query, gallery=gallery)).findings
    assert (shared.severity, shared.kind) == ("warning", "shared_identities")
    assert shared.entries == (("identity 2", (train[4].path, query[0].path)),)


@pytest.mark.parametrize(
    ("query", "gallery", "expected"),
    [
        ((1, 0), [(1, 1), (2, 0)], None),
        ((1, 0), [(2, 1)], "query_absent"),
        ((1, 0), [(1, 0), (2, 1)], "query_same_camera"),
        ((1, 0), [(1, 0), (1, 1)], None),
        ((1, -1), [(1, -1)], None),  # unknown cameras count as different
        ((1, 0), [(1, -1)], None),
        ((1, -2), [(1, -2)], "query_same_camera"),  # the query itself
        ((1, -2), [(1, -2), (1, -3)], None),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
def test_queries_without_match_are_reported(query, gallery, expected, others, sample, tmp_path):
    queries = [sample(*query)] + [sample(9, 0)] * others
    listed = [sample(*each) for each in gallery] + [sample(9, 1)] * others
    found = findings_by_kind(examine(ListedSamples(tmp_path, query=queries, gallery=listed)))
    assert set(found) & {"query_absent", "query_same_camera"} == ({expected} if expected else set())
    if expected:
        assert found[expected].severity == ("warning" if others else "error")
        assert found[expected].entries == (("identity 1", (queries[0].path,)),)
    assert ("no_cameras" in found) == (not others and (query[1] < 0 or max(gallery)[1] < 0))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("train", 1, 0), ("train", 2, 0), "two_identities"),
        (("train", 1, 0), ("gallery", 2, 0), "two_identities"),
        (("train", 1, 0), ("gallery", 1, 0), "two_splits"),
        (("query", 1, 0), ("gallery", 1, 1), "two_splits"),
        (("query", 1, 0), ("gallery", 1, 0), "copies"),  # junk
        (("query", 1, -2), ("gallery", 1, -3), "two_splits"),
        (("query", 1, -1), ("gallery", 1, -1), "two_splits"),  # the query matches itself
        (("gallery", 1, 0), ("gallery", 1, 1), "copies"),
    ],
)
@pytest.mark.parametrize("decode", [True, False])
def test_copies_are_reported(first, second, expected, decode, sample, tmp_path):
    path = picture(tmp_path / "first.png", 7000)
    copy = tmp_path / "second.bmp"  # different format, same pixels
    Image.open(path).save(copy)
    splits = {"train": [], "query": [], "gallery": []}
    splits[first[0]].append(sample(*first[1:], path))
    # Without decoding, copies are detected by path only.
    splits[second[0]].append(sample(*second[1:], str(copy) if decode else path))
    for pid, listed in enumerate(splits.values(), start=10):
        listed += [sample(pid, 0), sample(pid, 1)]
    found = findings_by_kind(examine(ListedSamples(tmp_path, **splits), decode=decode))
    same_file_as_junk = not decode and first[0] == "query" and first[1:] == second[1:] and first[2] != -1
    present = {"two_identities", "two_splits", "copies"} & set(found)
    assert present == (set() if same_file_as_junk else {expected})
    for kind in present:
        (entry,) = found[kind].entries
        assert entry.paths == ((path, str(copy)) if decode else (path,))
        assert f"{first[0]} identity {first[1]}" in entry.about
        assert found[kind].severity == ("note" if kind == "copies" else "warning")


def test_unreadable_images_are_reported(sample, tmp_path):
    train = [sample(pid, camid) for pid in (1, 2) for camid in range(4)]
    empty, text, truncated, huge, missing, folder = (tmp_path / f"{name}. x.jpg" for name in "abcdef")
    empty.touch()
    text.write_text("not an image")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:-20])
    Image.new("1", (MAX_PIXELS // 1024 + 1, 1024)).save(tmp_path / "huge.png")
    (tmp_path / "huge.png").rename(huge)
    folder.mkdir()
    broken = (empty, text, truncated, huge, missing, folder)
    train[:6] = [kept._replace(path=str(path)) for kept, path in zip(train[:6], broken, strict=True)]
    found = examine(ListedSamples(tmp_path, train=train))
    (finding,) = found.findings
    assert (finding.severity, finding.kind) == ("error", "unreadable")
    assert [entry.paths for entry in finding.entries] == [(str(path),) for path in broken]
    reasons = dict(zip("abcdef", [entry.about for entry in finding.entries], strict=True))
    assert len(set(reasons.values())) == 6
    assert reasons["a"] == "the file is empty"
    assert "truncated" in reasons["c"]
    assert str(MAX_PIXELS) in reasons["d"]
    assert not any(str(tmp_path) in reason for reason in reasons.values())  # paths are reported separately
    assert found.sizes["train"].height.max == 40


def test_pixel_statistics_are_pooled_over_images(sample, tmp_path):
    train = [sample(1, 0), sample(1, 1), sample(2, 0, height=200, width=30), sample(2, 1)]
    dark = np.random.default_rng(1).integers(0, 9, (90, 50, 3), np.uint8)
    Image.fromarray(dark).save(train[3].path)
    query, gallery = [sample(3, 0)], [sample(3, 1)]
    pixels = examine(ListedSamples(tmp_path, train=train, query=query, gallery=gallery)).pixels
    images = [np.asarray(Image.open(each.path)).reshape(-1, 3) / 255 for each in train]
    pixels_of_all = np.concatenate(images)
    np.testing.assert_allclose(pixels.mean, pixels_of_all.mean(0), rtol=1e-12)
    np.testing.assert_allclose(pixels.std, pixels_of_all.std(0), rtol=1e-12)
    assert abs(np.mean([image.std(0) for image in images], 0) - pixels.std).min() > 0.02


def test_sizes_are_summarized(sample, tmp_path):
    shapes = [(31, 20), (32, 33), (100, 50), (64, 64), (90, 45)]
    train = [sample(index % 2, index % 3, height=h, width=w) for index, (h, w) in enumerate(shapes, start=1)]
    found = examine(ListedSamples(tmp_path, train=[*train, sample(2, 4)]))
    assert found.sizes["train"].height == (31, 52, 100)
    assert found.sizes["train"].width == (20, 39, 64)
    assert found.sizes["train"].aspect == pytest.approx((32 / 33, 1.775, 2))
    by_kind = findings_by_kind(found)
    assert by_kind["small"].entries == (("31 x 20", (train[0].path,)),)
    assert by_kind["wide"].entries == (("32 x 33", (train[1].path,)),)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_problematic_file_names_are_reported(sample, tmp_path):
    names = [b"bytes\xff.png", b"line\nbreak.png", "s\u00e4ule \u4eba.png".encode()]
    paths = [picture(tmp_path / os.fsdecode(name), number) for number, name in enumerate(names, start=100)]
    train = [sample(1, 0), sample(2, 0), sample(2, 1)] + [sample(1, 1, path) for path in paths]
    found = findings_by_kind(examine(ListedSamples(tmp_path, train=train)))
    assert {kind: finding.entries for kind, finding in found.items()} == {
        "name_not_utf8": (("name", (paths[0],)),),
        "name_with_control": (("name", (paths[1],)),),
    }
    assert [finding.severity for finding in found.values()] == ["error", "warning"]


def test_splits_that_cannot_be_listed_are_reported(sample, tmp_path):
    train = [sample(pid, camid) for pid in (1, 2) for camid in (0, 1)]
    found = examine(ListedSamples(tmp_path, train=train, query=[], gallery=[]))
    assert [(finding.severity, finding.kind) for finding in found.findings] == [("error", "not_listed")] * 2
    assert all(text in found.findings[0].message for text in ("query", str(tmp_path)))
    assert list(found.samples) == ["train"]
    missing = ListedSamples(tmp_path, train=train, query=[], gallery=[])
    missing.root = tmp_path / "nowhere"
    (finding,) = examine(missing).findings  # one for all three splits
    assert finding.message.startswith("train, query, gallery: data.root=")


def test_size_differences_are_reported(sample, tmp_path):
    data = ListedSamples(tmp_path, train=[sample(pid, camid) for pid in (1, 2) for camid in (0, 1)])
    data.published = lambda: {"train": Statistics(2, 4, None)}
    assert examine(data).findings == []
    data.published = lambda: {"train": Statistics(2, 5, 3)}
    (finding,) = examine(data).findings
    assert finding.severity == "warning"
    assert all(text in finding.message for text in ("train", "images 4 instead of 5", "cameras 2 instead of 3"))


def test_frames_of_tracklets_are_checked(sample, tmp_path):
    frames = [sample(1, 0).path for _ in range(5)]
    train = [Sample(tuple(frames[:3]), 1, 0), Sample(tuple(frames[3:]), 1, 1), sample(2, 0), sample(2, 1)]
    (tmp_path / "4.png").write_bytes(b"")
    found = examine(ListedSamples(tmp_path, train=train))
    (finding,) = found.findings
    assert [entry.paths for entry in finding.entries] == [(frames[4],)]
    assert found.samples["train"] == train


def test_no_file_is_opened_without_decoding(sample, tmp_path):
    data = ListedSamples(tmp_path, train=[sample(pid, camid) for pid in (1, 2) for camid in (0, 1)])
    for each in data.listed_samples["train"]:
        os.remove(each.path)  # noqa: PTH107
    found = examine(data, decode=False)
    assert (found.findings, found.sizes, found.pixels) == ([], {}, None)


def test_reader_of_dataset_is_used(tmp_path):
    train = [Sample(f"record {number}", pid=number % 2 + 1, camid=number // 2) for number in range(4)]
    data = ListedSamples(tmp_path, train=train)
    data.read = lambda path: np.full((50, 20, 3), int(path.split()[1]), np.uint8)
    found = examine(data)
    assert found.findings == []
    assert found.pixels.mean == pytest.approx([1.5 / 255] * 3)

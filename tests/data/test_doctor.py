"""What is found out about a dataset, on files made here."""

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


class Given(ReIDDataModule):
    """Samples as a test gives them."""

    name = folder = licence = paper = source = "given"
    junk_pids = (0,)

    def __init__(self, root, **splits):
        super().__init__(str(root), **loading())
        self.directory.mkdir(exist_ok=True)
        self.given = splits
        self.splits = tuple(splits)

    def samples(self, split):
        return self.given[split]


def picture(path, seed, height=40, width=20):
    """A file of noise that no other seed gives."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return str(path)


@pytest.fixture
def sample(tmp_path):
    """Makes samples; each has a picture of its own unless it is given one."""
    number = iter(range(1000))

    def make(pid, camid, path=None, **size):
        index = next(number)
        return Sample(path or picture(tmp_path / f"{index}.png", index, **size), pid, camid)

    return make


def kinds(found):
    return {finding.kind: finding for finding in found.findings}


def abouts(finding):
    return [entry.about for entry in finding.entries]


def test_nothing_is_found_in_a_sound_dataset(sample, tmp_path):
    train = [sample(pid, camid) for pid in (1, 2) for camid in (0, 1)]
    query = [sample(3, 0)]
    gallery = [sample(3, 1), sample(0, 1), sample(0, 0), *query]  # distractors, and the query itself, which is junk
    found = examine(Given(tmp_path, train=train, query=query, gallery=gallery))
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


def test_training_identities(sample, tmp_path):
    train = [sample(1, 0), sample(2, 1), sample(2, 1), sample(3, 0), sample(3, 2), sample(0, 5), sample(4, -1)]
    train.append(sample(4, -1))
    found = kinds(examine(Given(tmp_path, train=train)))
    assert set(found) == {"one_image", "one_camera"}
    assert {finding.severity for finding in found.values()} == {"note"}
    assert found["one_image"].entries == (("identity 1", (train[0].path,)),)
    assert found["one_camera"].entries == (("identity 2", (train[1].path, train[2].path)),)
    (few,) = examine(Given(tmp_path, train=[sample(1, 0), sample(1, 1), sample(0, 1)])).findings
    assert (few.severity, few.kind) == ("error", "too_few_identities")
    assert "junk: 1." in few.message


def test_identities_in_training_and_test(sample, tmp_path):
    train = [sample(pid, camid) for pid in (0, 1, 2) for camid in (0, 1)]
    query, gallery = [sample(2, 0), sample(3, 0)], [sample(3, 1), sample(2, 1), sample(0, 1)]
    (shared,) = examine(Given(tmp_path, train=train, query=query, gallery=gallery)).findings
    assert (shared.severity, shared.kind) == ("warning", "shared_identities")
    assert shared.entries == (("identity 2", (train[4].path, query[0].path)),)


@pytest.mark.parametrize(
    ("query", "gallery", "expected"),
    [
        ((1, 0), [(1, 1), (2, 0)], None),
        ((1, 0), [(2, 1)], "query_absent"),
        ((1, 0), [(1, 0), (2, 1)], "query_same_camera"),
        ((1, 0), [(1, 0), (1, 1)], None),
        ((1, -1), [(1, -1)], None),  # an unknown camera is no other's
        ((1, 0), [(1, -1)], None),
        ((1, -2), [(1, -2)], "query_same_camera"),  # the query itself
        ((1, -2), [(1, -2), (1, -3)], None),
    ],
)
@pytest.mark.parametrize("others", [0, 1])
def test_queries_that_cannot_match(query, gallery, expected, others, sample, tmp_path):
    asked = [sample(*query)] + [sample(9, 0)] * others
    listed = [sample(*each) for each in gallery] + [sample(9, 1)] * others
    found = kinds(examine(Given(tmp_path, query=asked, gallery=listed)))
    assert set(found) & {"query_absent", "query_same_camera"} == ({expected} if expected else set())
    if expected:
        assert found[expected].severity == ("warning" if others else "error")
        assert found[expected].entries == (("identity 1", (asked[0].path,)),)
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
        (("query", 1, -1), ("gallery", 1, -1), "two_splits"),  # the query finds itself
        (("gallery", 1, 0), ("gallery", 1, 1), "copies"),
    ],
)
@pytest.mark.parametrize("decode", [True, False])
def test_copies(first, second, expected, decode, sample, tmp_path):
    path = picture(tmp_path / "first.png", 7000)
    copy = tmp_path / "second.bmp"  # another format, the same pixels
    Image.open(path).save(copy)
    splits = {"train": [], "query": [], "gallery": []}
    splits[first[0]].append(sample(*first[1:], path))
    # Without decoding, only the same path is known to be the same.
    splits[second[0]].append(sample(*second[1:], str(copy) if decode else path))
    for pid, listed in enumerate(splits.values(), start=10):
        listed += [sample(pid, 0), sample(pid, 1)]
    found = kinds(examine(Given(tmp_path, **splits), decode=decode))
    same_file_as_junk = not decode and first[0] == "query" and first[1:] == second[1:] and first[2] != -1
    present = {"two_identities", "two_splits", "copies"} & set(found)
    assert present == (set() if same_file_as_junk else {expected})
    for kind in present:
        (entry,) = found[kind].entries
        assert entry.paths == ((path, str(copy)) if decode else (path,))
        assert f"{first[0]} identity {first[1]}" in entry.about
        assert found[kind].severity == ("note" if kind == "copies" else "warning")


def test_unreadable_images(sample, tmp_path):
    train = [sample(pid, camid) for pid in (1, 2) for camid in range(4)]
    empty, text, cut, huge, gone, folder = (tmp_path / f"{name}. x.jpg" for name in "abcdef")
    empty.touch()
    text.write_text("no image")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-20])
    Image.new("1", (MAX_PIXELS // 1024 + 1, 1024)).save(tmp_path / "huge.png")
    (tmp_path / "huge.png").rename(huge)
    folder.mkdir()
    broken = (empty, text, cut, huge, gone, folder)
    train[:6] = [kept._replace(path=str(path)) for kept, path in zip(train[:6], broken, strict=True)]
    found = examine(Given(tmp_path, train=train))
    (finding,) = found.findings
    assert (finding.severity, finding.kind) == ("error", "unreadable")
    assert [entry.paths for entry in finding.entries] == [(str(path),) for path in broken]
    reasons = dict(zip("abcdef", abouts(finding), strict=True))
    assert reasons["a"] == "the file is empty"
    assert reasons["b"] == "it is in no known image format"
    assert "truncated" in reasons["c"]
    assert f"at most {MAX_PIXELS}" in reasons["d"]
    assert reasons["e"] == "there is no such file"
    assert "is a folder" in reasons["f"]
    assert found.sizes["train"].height.max == 40


def test_pixels_are_pooled_and_not_averaged(sample, tmp_path):
    train = [sample(1, 0), sample(1, 1), sample(2, 0, height=200, width=30), sample(2, 1)]
    dark = np.random.default_rng(1).integers(0, 9, (90, 50, 3), np.uint8)
    Image.fromarray(dark).save(train[3].path)
    query, gallery = [sample(3, 0)], [sample(3, 1)]
    pixels = examine(Given(tmp_path, train=train, query=query, gallery=gallery)).pixels
    images = [np.asarray(Image.open(each.path)).reshape(-1, 3) / 255 for each in train]
    together = np.concatenate(images)
    np.testing.assert_allclose(pixels.mean, together.mean(0), rtol=1e-12)
    np.testing.assert_allclose(pixels.std, together.std(0), rtol=1e-12)
    assert abs(np.mean([image.std(0) for image in images], 0) - pixels.std).min() > 0.02


def test_sizes(sample, tmp_path):
    shapes = [(31, 20), (32, 33), (100, 50), (64, 64), (90, 45)]
    train = [sample(index % 2, index % 3, height=h, width=w) for index, (h, w) in enumerate(shapes, start=1)]
    found = examine(Given(tmp_path, train=[*train, sample(2, 4)]))
    assert found.sizes["train"].height == (31, 52, 100)
    assert found.sizes["train"].width == (20, 39, 64)
    assert found.sizes["train"].aspect == pytest.approx((32 / 33, 1.775, 2))
    by_kind = kinds(found)
    assert by_kind["small"].entries == (("31 x 20", (train[0].path,)),)
    assert by_kind["wide"].entries == (("32 x 33", (train[1].path,)),)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_names_that_others_cannot_read(sample, tmp_path):
    names = [b"bytes\xff.png", b"line\nbreak.png", "s\u00e4ule \u4eba.png".encode()]
    paths = [picture(tmp_path / os.fsdecode(name), number) for number, name in enumerate(names, start=100)]
    train = [sample(1, 0), sample(2, 0), sample(2, 1)] + [sample(1, 1, path) for path in paths]
    found = kinds(examine(Given(tmp_path, train=train)))
    assert {kind: finding.entries for kind, finding in found.items()} == {
        "name_not_utf8": (("name", (paths[0],)),),
        "name_with_control": (("name", (paths[1],)),),
    }
    assert [finding.severity for finding in found.values()] == ["error", "warning"]


def test_splits_that_cannot_be_listed(sample, tmp_path):
    train = [sample(pid, camid) for pid in (1, 2) for camid in (0, 1)]
    found = examine(Given(tmp_path, train=train, query=[], gallery=[]))
    assert [(finding.severity, finding.kind) for finding in found.findings] == [("error", "not_listed")] * 2
    assert "no query images" in found.findings[0].message
    assert list(found.samples) == ["train"]
    missing = Given(tmp_path, train=train, query=[], gallery=[])
    missing.root = tmp_path / "nowhere"
    (finding,) = examine(missing).findings  # once for all three
    assert finding.message.startswith("train, query, gallery: data.root=")


def test_published_sizes(sample, tmp_path):
    data = Given(tmp_path, train=[sample(pid, camid) for pid in (1, 2) for camid in (0, 1)])
    data.published = lambda: {"train": Statistics(2, 4, None)}
    assert examine(data).findings == []
    data.published = lambda: {"train": Statistics(2, 5, 3)}
    (finding,) = examine(data).findings
    assert finding.severity == "warning"
    assert finding.message == "train is not as published: images 4 instead of 5, cameras 2 instead of 3."


def test_tracklets(sample, tmp_path):
    frames = [sample(1, 0).path for _ in range(5)]
    train = [Sample(tuple(frames[:3]), 1, 0), Sample(tuple(frames[3:]), 1, 1), sample(2, 0), sample(2, 1)]
    (tmp_path / "4.png").write_bytes(b"")
    found = examine(Given(tmp_path, train=train))
    (finding,) = found.findings
    assert finding.entries == (("the file is empty", (frames[4],)),)
    assert found.samples["train"] == train


def test_without_decoding_no_file_is_opened(sample, tmp_path):
    data = Given(tmp_path, train=[sample(pid, camid) for pid in (1, 2) for camid in (0, 1)])
    for each in data.given["train"]:
        os.remove(each.path)  # noqa: PTH107
    found = examine(data, decode=False)
    assert (found.findings, found.sizes, found.pixels) == ([], {}, None)


def test_the_datasets_own_reader_is_used(tmp_path):
    train = [Sample(f"record {number}", pid=number % 2 + 1, camid=number // 2) for number in range(4)]
    data = Given(tmp_path, train=train)
    data.read = lambda path: np.full((50, 20, 3), int(path.split()[1]), np.uint8)
    found = examine(data)
    assert found.findings == []
    assert found.pixels.mean == pytest.approx([1.5 / 255] * 3)

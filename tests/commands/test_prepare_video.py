"""`reidlit prepare` and `reidlit doctor` on tracklets."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def people(tmp_path):
    """Tracklets of noise in folders; gives the frames' paths."""
    generator = np.random.default_rng(0)
    frames = []
    for person in ("anna", "ben", "cem", "dora"):
        for tracklet in ("door/1", "door/2", "hall/1"):
            for frame in range(1, 4):
                path = tmp_path / "people" / person / tracklet / f"{frame}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(generator.integers(0, 256, (64, 32, 3), np.uint8)).save(path)
                frames.append(path.relative_to(tmp_path))
    return frames


def test_folders_and_a_table_of_the_same_tracklets(reidlit, tmp_path, people):
    lines = [",".join([str(path), *path.parts[1:4], path.stem]) for path in reversed(people)]
    (tmp_path / "table.csv").write_text("\n".join(["path,pid,camid,tracklet,frame", *lines]))
    found = []
    for options in (["data=tracklets", "data.root=people"], ["data=tracklets_csv", "data.file=table.csv"]):
        result = reidlit("prepare", *options)
        assert result.status == 0, result.err
        assert "the split is kept in splits/" in result.out
        assert "no archive of its own" in reidlit("prepare", *options, "archive=a.zip").err
        result = reidlit("doctor", *options, "data.pack=decoded", "hydra.run.dir=run")
        assert result.status == 0, result.err
        assert "no errors, no warnings, no notes" in result.out
        with Image.open(tmp_path / "run" / "contact_sheet.png") as sheet:
            assert sheet.width > 300
        (report,) = json.loads((tmp_path / "run" / "doctor.json").read_text())["datasets"]
        found.append({split: [size["identities"], size["images"]] for split, size in report["splits"].items()})
    assert found[0] == found[1] == {"train": [2, 6], "query": [2, 2], "gallery": [2, 4]}
    assert {path.name for path in (tmp_path / "splits").iterdir()} == {"people.csv", "table.csv"}
    assert len(list((tmp_path / "packed").iterdir())) == 2


def test_doctor_finds_a_broken_frame(reidlit, tmp_path, people):
    (tmp_path / people[4]).write_bytes(b"cut")
    result = reidlit("doctor", "data=tracklets", "data.root=people", "hydra.run.dir=run")
    assert result.status == 1
    assert "unreadable images: 1." in result.out
    assert str(people[4]) in result.out


def test_mistakes_are_one_line(reidlit):
    for options, words in (
        (["data=tracklets"], "data.root is not given"),
        (["data=tracklets", "data.root=people"], "data.root='people' is no folder. Lay the frames out"),
        (["data=tracklets_csv"], "data.file is not given"),
        (["data=prid2011", "data.split_id=10"], "data.split_id=10: prid2011 has the splits 0 to 9"),
        (["data=mars", "data.sampling=all"], "data.sampling=all must be one of"),
        (["data=mars", "download=true"], "nobody gives mars to everybody"),
        (["data=dukemtmcvidreid"], "withdrew them in 2019"),
    ):
        result = reidlit("prepare", *options)
        assert (result.status, words in result.err) == (1, True), result.err
        assert len(result.err.strip().splitlines()) == 1

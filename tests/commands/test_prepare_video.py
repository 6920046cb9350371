"""`reidlit prepare` and `reidlit doctor` on tracklets."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def people(tmp_path):
    """Write random tracklets, one folder per person and tracklet; return the paths of the frames."""
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


def test_folders_and_table_of_the_same_tracklets_give_equal_splits(reidlit, tmp_path, people):
    lines = [",".join([str(path), *path.parts[1:4], path.stem]) for path in reversed(people)]
    (tmp_path / "table.csv").write_text("\n".join(["path,pid,camid,tracklet,frame", *lines]))
    found = []
    for options in (["data=tracklets", "data.root=people"], ["data=tracklets_csv", "data.file=table.csv"]):
        result = reidlit("prepare", *options)
        assert result.status == 0, result.err
        assert "splits/" in result.out
        assert "archive=a.zip" in reidlit("prepare", *options, "archive=a.zip").err
        result = reidlit("doctor", *options, "data.pack=decoded", "hydra.run.dir=run")
        assert result.status == 0, result.err
        assert "0 errors, 0 warnings, 0 notes" in result.out
        with Image.open(tmp_path / "run" / "contact_sheet.png") as sheet:
            assert sheet.width > 300
        (report,) = json.loads((tmp_path / "run" / "doctor.json").read_text())["datasets"]
        found.append({split: [size["identities"], size["images"]] for split, size in report["splits"].items()})
    assert found[0] == found[1] == {"train": [2, 6], "query": [2, 2], "gallery": [2, 4]}
    assert {path.name for path in (tmp_path / "splits").iterdir()} == {"people.csv", "table.csv"}
    assert len(list((tmp_path / "packed").iterdir())) == 2


def test_doctor_reports_unreadable_frame(reidlit, tmp_path, people):
    (tmp_path / people[4]).write_bytes(b"cut")
    result = reidlit("doctor", "data=tracklets", "data.root=people", "hydra.run.dir=run")
    assert result.status == 1
    assert "1 error" in result.out
    assert str(people[4]) in result.out


def test_invalid_arguments_give_one_line(reidlit):
    for options, expected in (
        (["data=tracklets"], "data.root"),
        (["data=tracklets", "data.root=people"], "data.root='people'"),
        (["data=tracklets_csv"], "data.file"),
        (["data=prid2011", "data.split_id=10"], "data.split_id=10"),
        (["data=mars", "data.sampling=all"], "data.sampling=all"),
        (["data=mars", "download=true"], "download=true"),
        (["data=dukemtmcvidreid"], "2019"),
    ):
        result = reidlit("prepare", *options)
        assert (result.status, expected in result.err) == (1, True), result.err
        assert len(result.err.strip().splitlines()) == 1

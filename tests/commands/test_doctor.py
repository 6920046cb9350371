"""`reidlit doctor`."""

import json
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

from helpers.cli_settings import TINY


@pytest.fixture
def market(tmp_path, monkeypatch):
    """Create the folders of Market-1501 with small images; return the dataset folder."""
    monkeypatch.setenv("REIDLIT_DATA", str(tmp_path / "data"))
    base = tmp_path / "data" / "market1501"

    def create(train, query, gallery):
        generator = np.random.default_rng(0)
        for folder, names in (("bounding_box_train", train), ("query", query), ("bounding_box_test", gallery)):
            (base / folder).mkdir(parents=True)
            for name in names:
                noise = generator.integers(0, 256, (64, 32, 3), np.uint8)
                Image.fromarray(noise).save(base / folder / name)
        return base

    return create


TRAIN = [f"{pid:04}_c{camera}s1_1.jpg" for pid in (2, 7) for camera in (1, 2)]
QUERY, GALLERY = ["0001_c1s1_1.jpg"], ["0001_c2s1_1.jpg", "0000_c2s1_1.jpg"]


def report_of(folder):
    return json.loads((folder / "doctor.json").read_text())["datasets"]


def test_synthetic_data_has_no_findings(reidlit, tmp_path):
    result = reidlit("doctor", *TINY, "hydra.run.dir=run")
    assert result.status == 0, result.err
    assert "0 errors, 0 warnings, 0 notes" in result.out
    assert "64  64  64" in result.out
    assert "0.485  0.456  0.406" in result.out
    (report,) = report_of(tmp_path / "run")
    assert (report["name"], report["findings"]) == ("synthetic", [])
    assert report["splits"]["query"]["images"] == 12
    assert all(0 < value < 1 for value in report["training_pixels"]["mean"] + report["training_pixels"]["std"])
    with Image.open(tmp_path / "run" / "contact_sheet.png") as sheet:
        assert sheet.width > 400


def test_findings_are_shortened_in_the_terminal_and_complete_in_the_file(reidlit, market, tmp_path):
    train = [*TRAIN, *(f"{pid:04}_c1s1_1.jpg" for pid in range(100, 130))]
    base = market(train, QUERY, GALLERY)
    broken = [base / "bounding_box_train" / name for name in train[:12]]
    for path in broken:
        path.write_bytes(path.read_bytes()[:300])
    result = reidlit("doctor", "data=market1501", "hydra.run.dir=run")
    assert result.status == 1
    assert result.err.startswith("reidlit doctor: data=market1501")
    assert len(result.err.splitlines()) == 1
    errors = result.out.split("warning:")[0]
    assert errors.count("error:") == 1
    assert sum(str(path) in errors for path in broken) == 10
    assert "2 more" in errors
    assert "doctor.json" in errors
    assert re.search(r"warning: train .*\b32\b.*\b751\b", result.out)
    assert "1 error, 3 warnings, 1 note" in result.out
    (report,) = report_of(tmp_path / "run")
    findings = {finding["kind"]: finding for finding in report["findings"]}
    assert [entry["paths"] for entry in findings["unreadable"]["entries"]] == [[str(path)] for path in broken]
    assert len(findings["one_image"]["entries"]) == 30
    assert (tmp_path / "run" / "contact_sheet.png").is_file()


def test_decode_false_checks_names_only(reidlit, market, tmp_path):
    base = market(TRAIN, QUERY, GALLERY)
    (base / "query" / QUERY[0]).write_bytes(b"")
    arguments = ["data=market1501", "decode=false", "contact_sheet.identities=0", "hydra.run.dir=run"]
    result = reidlit("doctor", *arguments)
    assert result.status == 0, result.err
    assert "ImageNet" not in result.out
    assert report_of(tmp_path / "run")[0]["training_pixels"] is None
    assert not list((tmp_path / "run").glob("*.png"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_unprintable_names_are_escaped(reidlit, market, tmp_path):
    base = market(TRAIN, QUERY, GALLERY)
    os.rename(base / "query" / QUERY[0], os.fsencode(base / "query") + b"/0001_c1s1\xff\x1b[2J.jpg")  # noqa: PTH104
    result = reidlit("doctor", "data=market1501", "hydra.run.dir=run")
    assert result.status == 1
    assert r"0001_c1s1\udcff\x1b[2J.jpg" in result.out
    assert report_of(tmp_path / "run")[0]["findings"][0]["kind"] == "name_not_utf8"


def test_each_dataset_of_several_is_checked(reidlit, market, tmp_path):
    market(TRAIN, QUERY, GALLERY)
    sizes = "num_identities:4,num_test:2,num_cameras:2,shots:2,image_height:64,image_width:32"
    sources = f"data.sources=[{{synthetic:{{{sizes}}}}},market1501]"
    result = reidlit("doctor", "data=multi", sources, "hydra.run.dir=run")
    assert result.status == 0, result.err
    assert [each["name"] for each in report_of(tmp_path / "run")] == ["synthetic", "market1501"]
    assert sorted(path.name for path in (tmp_path / "run").glob("*.png")) == [
        "contact_sheet_1.png",
        "contact_sheet_2.png",
    ]


def test_missing_dataset_and_invalid_numbers_are_named(reidlit, tmp_path, monkeypatch):
    monkeypatch.setenv("REIDLIT_DATA", str(tmp_path / "nowhere"))
    result = reidlit("doctor", "data=market1501", "hydra.run.dir=run")
    assert result.status == 1
    assert re.search(r"error: train, query, gallery.*data\.root=", result.out)
    for option in ("identities=-1", "images=0"):
        result = reidlit("doctor", *TINY, f"contact_sheet.{option}", "hydra.run.dir=run")
        assert (result.status, f"contact_sheet.{option}" in result.err) == (1, True)

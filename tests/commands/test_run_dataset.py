"""The dataset of a run folder from a stranger: only files of the user's own data root are read."""

from types import SimpleNamespace

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from helpers.cli_settings import TRAIN
from helpers.datasets import draw
from reidlit.commands._run_dataset import RunDataset, dataset_of
from reidlit.config import CONFIG_DIR
from reidlit.data.decode import decode
from reidlit.yaml_files import without_interpolations


@pytest.fixture
def composed(monkeypatch, drawn):
    """Settings of a run on synthetic images, composed as by a command."""
    monkeypatch.setenv("REIDLIT_DATA", str(drawn))
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        settings = OmegaConf.to_container(compose("test", TRAIN[:9]), resolve=False)
        kept = {name: settings[name] for name in ("data", "sampler", "transforms")} | {"seed": 1}
        yield without_interpolations(OmegaConf.create(kept))


def changed(settings, **data):
    return {**settings, "data": {**settings["data"], **data}}


@pytest.mark.usefixtures("trained")
def test_default_root_and_named_root_are_read(composed, drawn, tmp_path):
    found = dataset_of(composed, None)
    assert found.root == drawn
    assert len(found.datamodule.test_sets["synthetic"].query) > 0
    found = dataset_of(changed(composed, root="/elsewhere"), str(drawn))
    assert found.root == drawn
    with pytest.raises(ValueError, match=r"data_root=/elsewhere"):
        dataset_of(changed(composed, root="/elsewhere"), None)
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        dataset_of(composed, str(tmp_path))


CSV = "reidlit.data.datasets.csv_file.CSVFile"


@pytest.mark.parametrize(
    "data",
    [
        {"file": "{outside}"},
        {"file": "secret.csv"},
        {"file": "~/secret.csv"},
        {"split_file": "{outside}"},
        {"name": "../../secret"},
        {"sources": ["../../{outside}"]},
        {"sources": [{"csv": {"file": "{outside}"}}]},
        {"sources": [{"folder": {"root": "/etc"}}]},
        {"_target_": CSV, "file": "{outside}", "root": None},
    ],
)
def test_files_elsewhere_are_not_read(data, composed, tmp_path, monkeypatch):
    (tmp_path / "secret.csv").write_text("password\n")
    monkeypatch.chdir(tmp_path)
    text = OmegaConf.to_yaml(OmegaConf.create(data)).replace("{outside}", str(tmp_path / "secret.csv"))
    with pytest.raises(ValueError, match="is not in") as error:
        dataset_of(changed(composed, **OmegaConf.to_container(OmegaConf.create(text))), None)
    assert "password" not in str(error.value)


@pytest.mark.parametrize("value", ["${oc.env:SECRET}", "x${oc.env:SECRET}", "${oc.decode:'1'}", "${nowhere}"])
def test_interpolations_are_not_resolved(value, composed, monkeypatch):
    monkeypatch.setenv("SECRET", "password")
    for settings in (changed(composed, name=value), {**composed, "sampler": {**composed["sampler"], "x": [value]}}):
        with pytest.raises(ValueError, match="interpolation") as error:
            dataset_of(settings, None)
        assert "password" not in str(error.value)


def test_images_outside_the_root_are_not_shown(tmp_path):
    draw(tmp_path / "root" / "a.png", 7)
    draw(tmp_path / "private.png", 9)
    (tmp_path / "root" / "own link.png").symlink_to(tmp_path / "private.png")
    read = RunDataset(SimpleNamespace(), tmp_path / "root").confined(decode)
    np.testing.assert_array_equal(read(str(tmp_path / "root" / "a.png")), decode(tmp_path / "root" / "a.png"))
    assert read(str(tmp_path / "root" / "own link.png")).shape[2] == 3
    for path in (tmp_path / "private.png", tmp_path / "root" / ".." / "private.png"):
        with pytest.raises(ValueError, match=r"private\.png"):
            read(str(path))

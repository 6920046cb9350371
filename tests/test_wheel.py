"""The wheel contains conf/ and works outside the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder that contains the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_wheel_contains_only_the_package_with_conf(site):
    assert (site / "reidlit/conf/train.yaml").is_file()
    assert (site / "reidlit/conf/model/osnet_x1_0.yaml").is_file()
    assert {path.name.split("-")[0] for path in site.iterdir()} == {"reidlit"}


def test_wheel_runs_outside_the_repository(site, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-P", "-m", "reidlit", "train", "model=osnet_x1_0", "--cfg", "job"]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "width: 1.0" in process.stdout, process.stderr
    code = "import reidlit.config; print(reidlit.config.CONFIG_DIR)"
    process = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == str(site / "reidlit" / "conf")

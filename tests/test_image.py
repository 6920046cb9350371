"""The container image, as far as it can be checked without an engine."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_the_image_is_built_from_is_enough(tmp_path):
    """The files that it copies, and that .dockerignore lets through, make the package with its configuration."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    context = tmp_path / "context"
    for line in re.findall(r"^COPY (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        *sources, target = line.split()
        for name in sources:
            assert name in allowed
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, context / target)
            else:
                context.mkdir(exist_ok=True)
                shutil.copy(ROOT / name, context / target)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, context]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "reidlit/conf/train.yaml" in names
    assert "reidlit/cli.py" in names


def test_make_says_what_it_would_run():
    command = ["make", "--no-print-directory", "--dry-run", "build-image", "run"]
    command += ["command=train data=market1501", "gpus="]
    # Not as a part of `make test`, which would tell of itself.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    assert "docker build --tag reidlit ." in done.stdout
    assert done.stdout.rstrip().endswith("reidlit train data=market1501")
    assert "--gpus" not in done.stdout

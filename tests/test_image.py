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


def test_make_builds_an_image_and_runs_commands_in_it(tmp_path):
    """With an engine that only notes what it is asked for."""
    engine, noted = tmp_path / "bin" / "docker", tmp_path / "noted"
    engine.parent.mkdir()
    engine.write_text(f'#!/bin/sh\necho "$@" >> {noted}\n')
    engine.chmod(0o755)
    command = ["make", "build-image", "run", "command=train data=market1501", "gpus="]
    command += [f"{folder}={tmp_path / folder}" for folder in ("data", "runs")]
    # Not as a part of `make test`, which would tell of itself.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    path = f"{engine.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=ROOT, env=alone | {"PATH": path}, capture_output=True, check=True)
    build, run = noted.read_text().splitlines()
    tag = build.split()[build.split().index("--tag") + 1]
    assert build.startswith("build ")
    assert run.startswith("run ")
    assert run.endswith(f"{tag} train data=market1501")
    assert "--gpus" not in run
    for folder in ("data", "runs"):
        assert f"{tmp_path / folder}:" in run
        assert (tmp_path / folder).is_dir()

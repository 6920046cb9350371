"""Container image: checks that need no container engine."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_files_copied_into_the_image_build_a_wheel(tmp_path):
    """The files that the Dockerfile copies and .dockerignore allows are enough to build the wheel with conf/."""
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
    process = subprocess.run(build, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "reidlit/conf/train.yaml" in names
    assert "reidlit/cli.py" in names


def test_make_builds_the_image_and_runs_a_command(tmp_path):
    """A fake container engine records its arguments."""
    engine, log = tmp_path / "bin" / "docker", tmp_path / "log"
    engine.parent.mkdir()
    engine.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    engine.chmod(0o755)
    command = ["make", "build-image", "run", "command=train data=market1501", "gpus="]
    command += [f"{folder}={tmp_path / folder}" for folder in ("data", "runs")]
    # Remove the variables of `make test`, which would change the output of this make.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    path = f"{engine.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=ROOT, env=environment | {"PATH": path}, capture_output=True, check=True)
    build, run = log.read_text().splitlines()
    tag = build.split()[build.split().index("--tag") + 1]
    assert build.startswith("build ")
    assert run.startswith("run ")
    assert run.endswith(f"{tag} train data=market1501")
    assert "--gpus" not in run
    for folder in ("data", "runs"):
        assert f"{tmp_path / folder}:" in run
        assert (tmp_path / folder).is_dir()

"""Install the built package in fresh environments and run it outside the repository.

    python .ci/matrix.py                       # Python 3.11, 3.12 and 3.13, each with the newest and the floor versions
    python .ci/matrix.py --python 3.11 --versions floor

Floor versions are the lower bounds in pyproject.toml. Each environment is created, used and deleted. A Python version that is
not installed is reported, and counts as a failure if it was requested.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
FIRST_FOR_3_13 = {
    "h5py": "3.12",
    "matplotlib": "3.9.2",
    "numpy": "2.1",
    "pillow": "11.0",
    "pyarrow": "18.0",
    "scipy": "1.14.1",
}
TINY = [
    "data.num_identities=12",
    "data.num_test=6",
    "data.num_cameras=2",
    "data.shots=3",
    "data.image_height=64",
    "data.image_width=32",
    "data.height=64",
    "data.width=32",
    "data.num_workers=0",
    "callbacks.progress=null",
]
COMMANDS = (
    ("--version",),
    ("train", *TINY, "data.batch_size=12", "trainer.max_epochs=1", "hydra.run.dir=run"),
    ("test", *TINY, "ckpt_path=run/checkpoints/last.ckpt", "eval.postprocess=[k_reciprocal]"),
    ("extract", "images=data/synthetic", "ckpt_path=run/checkpoints/last.ckpt", "output=features.npz"),
    ("report", "run=run"),
)
LIBRARY = """
import numpy as np, reidlit, torch
model = reidlit.build_model("osnet_x0_25", num_classes=4)
extractor = reidlit.FeatureExtractor(model_path="run/checkpoints/last.ckpt", device="cpu")
features = extractor([np.zeros((64, 32, 3), np.uint8)] * 2)
scores = reidlit.evaluate(torch.randn(6, 8), torch.randn(20, 8), np.arange(6) % 3, np.arange(20) % 3)
module = reidlit.ReIDModule.load_from_checkpoint("run/checkpoints/last.ckpt")
assert features.shape == (2, 512) and 0 < scores.mAP <= 1 and module.model.embedding_size == 512
"""


def main() -> None:
    """Run the requested combinations and report which failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", default=PYTHONS, help="versions, or paths of interpreters")
    parser.add_argument("--versions", nargs="+", choices=("newest", "floor"), default=("newest", "floor"))
    parser.add_argument("--present", action="store_true", help="leave out Python versions that are not installed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        packages = build(Path(scratch))
        pythons = [python for python in arguments.python if not arguments.present or find(python)]
        combinations = [(python, versions) for python in pythons for versions in arguments.versions]
        failed = []
        for number, (python, versions) in enumerate(combinations):
            package = packages[number % len(packages)]  # the wheel and the source archive in turn
            print(f"Python {python}, {versions} versions, from {package.name}", flush=True)
            try:
                check(python, versions, package, Path(scratch) / f"{number}")
            except (subprocess.CalledProcessError, FileNotFoundError) as error:
                failed.append(f"Python {python}, {versions}: {error}")
                print(f"  failed: {error}", flush=True)
    if failed:
        sys.exit("\n".join(failed))


def find(python: str) -> str | None:
    """Return the interpreter of a version or path, or None; versions of pyenv need not be on PATH."""
    name = python if os.sep in python or python.startswith("python") else f"python{python}"
    paths = [shutil.which(name)]
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "whence", "--path", name], capture_output=True, text=True, check=False).stdout
        paths += listed.splitlines()
    for path in filter(None, paths):
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


def build(folder: Path) -> list[Path]:
    """Build the wheel and the source archive."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]


def check(python: str, versions: str, package: Path, folder: Path) -> None:
    """Check one combination in a folder outside the repository."""
    interpreter = find(python)
    if interpreter is None:
        raise FileNotFoundError(f"Python {python} is not installed")
    work = folder / "elsewhere"
    work.mkdir(parents=True)
    subprocess.run([interpreter, "-m", "venv", folder / "venv"], check=True)
    binaries = folder / "venv" / "bin"
    pip = [binaries / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    limits = folder / "floors.txt"
    limits.write_text("\n".join(floors(binaries / "python")) if versions == "floor" else "")
    subprocess.run([*pip, "--constraint", limits, package], check=True)
    environment = {**os.environ, "WANDB_MODE": "offline", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    for command in COMMANDS:
        run([binaries / "reidlit", *command], work, environment)
    run([binaries / "python", "-c", LIBRARY], work, environment)
    metrics = json.loads((work / "run" / "metrics.json").read_text())
    installed = subprocess.run(
        [binaries / "python", "-m", "pip", "freeze"], check=True, capture_output=True, text=True
    ).stdout
    versions_used = [
        line for line in installed.splitlines() if line.startswith(("torch==", "numpy==", "numba==", "pytorch-l"))
    ]
    print(f"  passed: mAP {metrics['test/synthetic/mAP']:.3f}, {', '.join(versions_used)}", flush=True)
    shutil.rmtree(folder)


def run(command: list[str | Path], folder: Path, environment: dict[str, str]) -> None:
    """Run a command, and print its output if it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}", flush=True)
    done.check_returncode()


def floors(interpreter: Path) -> list[str]:
    """Return the dependencies, each pinned to the lowest release series that pyproject.toml allows."""
    version = subprocess.run([interpreter, "--version"], check=True, capture_output=True, text=True).stdout
    later = FIRST_FOR_3_13 if version.startswith("Python 3.13") else {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    matches = [re.match(r"([\w-]+)>=([\d.]+)", line) for line in project["dependencies"]]
    least = {match[1]: match[2] for match in matches if match} | later
    return [f"{name}=={number}" + ("" if number.count(".") > 1 else ".*") for name, number in least.items()]


if __name__ == "__main__":
    main()

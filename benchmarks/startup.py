"""Start-up time of commands and imports, compared with Python, Hydra and torch alone.

    python benchmarks/startup.py [--output benchmarks/results/startup.json]

`reidlit train` excludes imported modules from garbage collection; `import reidlit.commands.train` is the same import without it.

Results are medians of wall-clock seconds of new processes with files in the page cache; the candidates take turns. The floor is
Python that does nothing; for commands, the import of Hydra; for training, the import of torch.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loader import cpu, versions

# The shortest possible training, so that nearly all of it is start-up: a few steps on four synthetic images.
SHORTEST = [
    *("data.num_identities=4", "data.num_test=2", "data.shots=2", "data.image_height=64", "data.image_width=32"),
    *(
        "data.height=64",
        "data.width=32",
        "data.batch_size=4",
        "data.num_workers=0",
        "trainer.max_epochs=1",
        "test=false",
    ),
]
CANDIDATES = {
    "python": ["-c", "pass"],
    "import hydra": ["-c", "import hydra"],
    "import torch": ["-c", "import torch"],
    "import pytorch_lightning": ["-c", "import pytorch_lightning"],
    "import torchreid": ["-c", "import torchreid"],
    "import reidlit": ["-c", "import reidlit"],
    "reidlit.evaluate": ["-c", "import reidlit; reidlit.evaluate"],
    "reidlit.build_model": ["-c", "import reidlit; reidlit.build_model"],
    "import reidlit.commands.train": ["-c", "import reidlit.commands.train"],
    "reidlit --help": ["-m", "reidlit", "--help"],
    "reidlit train --cfg job": ["-m", "reidlit", "train", "--cfg", "job"],
    "reidlit train, a few steps": ["-m", "reidlit", "train", *SHORTEST],
}


def main() -> None:
    """Run the measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(arguments.repetitions + 1):
            for name, command in CANDIDATES.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=folder)
                if repetition:  # the first run fills the page cache
                    times[name].append(time.perf_counter() - start)
    results = {
        "what": "seconds from start to end of a process, medians",
        "machine": {
            "cpu": cpu(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "load_before": round(os.getloadavg()[0], 1),
        },
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": versions(),
        "repetitions": arguments.repetitions,
        "seconds": {name: round(statistics.median(seconds), 3) for name, seconds in times.items()},
        "min_max": {name: [round(min(s), 3), round(max(s), 3)] for name, s in times.items()},
    }
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

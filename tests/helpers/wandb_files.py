"""Reads the files that W&B writes a run to: records of protocol buffers in blocks, as in LevelDB's log."""

import json
import struct
import time
from pathlib import Path
from types import SimpleNamespace

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, struct.Struct("<IHB")  # checksum, length, kind
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(file: Path):
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    place, part = 7, b""
    while place + HEADER.size <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER.size:
            place += left
            continue
        _, size, kind = HEADER.unpack_from(content, place)
        part += content[place + HEADER.size : place + HEADER.size + size]
        place += HEADER.size + size
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(part)
            part = b""
            yield record


def read_run(folder: Path):
    """What an offline run directory holds: `run`, `config`, `charts`, `rows`, `artifacts`, `exit_code`."""
    (file,) = folder.glob("run-*.wandb")
    found = SimpleNamespace(folder=folder, config={}, charts={}, rows=[], artifacts={}, exit_code=None)
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
        elif kind == "config":
            for item in record.config.update:
                if item.nested_key[:2] == ["_wandb", "visualize"]:
                    found.charts[item.nested_key[2]] = json.loads(item.value_json)
                elif item.key:
                    found.config[item.key] = json.loads(item.value_json)
        elif kind == "history":
            row = {}
            for item in record.history.item:
                *path, last = item.nested_key
                inner = row
                for key in path:
                    inner = inner.setdefault(key, {})
                inner[last] = json.loads(item.value_json)
            found.rows.append(row)
        elif kind == "artifact":
            found.artifacts.setdefault((record.artifact.type, record.artifact.name), []).append(record.artifact)
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def runs(folder):
    """The parts of a run, oldest first, once W&B's own process has written them to the end."""
    until = time.monotonic() + 20
    while True:
        found = [read_run(part) for part in sorted((folder / "wandb").glob("offline-run-*"))]
        if all(run.exit_code is not None for run in found) or time.monotonic() > until:
            return found
        time.sleep(0.05)


def column(run, name: str) -> dict[int, float]:
    """What was logged under a name, by step."""
    return {row["_step"]: row[name] for row in run.rows if name in row}


def table(run, name: str):
    """Columns and rows of a table, and the files that it came with, by name."""
    (logged,) = column(run, name).values()
    content = json.loads((run.folder / "files" / logged["path"]).read_text())
    for (kind, _), versions in run.artifacts.items():
        files = {entry.path: Path(entry.local_path) for entry in versions[-1].manifest.contents}
        if kind == "run_table" and f"{name}.table.json" in files:
            own = json.loads(files[f"{name}.table.json"].read_text())
            return content["columns"], own["data"], files
    raise AssertionError(f"no artifact holds {name}")


def clean(home, environment):
    """An environment of somebody who has never heard of W&B."""
    kept = {name: value for name, value in environment.items() if not name.startswith("WANDB_")}
    return kept | {"HOME": str(home), "NETRC": str(home / "none")}

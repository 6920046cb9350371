"""Reader of the files of offline W&B runs: protocol buffer records in blocks, in the format of LevelDB logs."""

import json
import struct
import time
from pathlib import Path
from types import SimpleNamespace

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, struct.Struct("<IHB")  # checksum, length, type
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4  # types of record fragments


def records(file: Path):
    """Yield the records of a file."""
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    position, data = 7, b""
    while position + HEADER.size <= len(content):
        remaining = BLOCK - position % BLOCK
        if remaining < HEADER.size:
            position += remaining
            continue
        _, size, fragment_type = HEADER.unpack_from(content, position)
        data += content[position + HEADER.size : position + HEADER.size + size]
        position += HEADER.size + size
        if fragment_type in (FULL, LAST):
            record = Record()
            record.ParseFromString(data)
            data = b""
            yield record


def read_run(folder: Path):
    """Return the content of an offline run folder: `run`, `config`, `charts`, `rows`, `artifacts`, `exit_code`."""
    (file,) = folder.glob("run-*.wandb")
    run = SimpleNamespace(folder=folder, config={}, charts={}, rows=[], artifacts={}, exit_code=None)
    for record in records(file):
        record_type = record.WhichOneof("record_type")
        if record_type == "run":
            run.run = record.run
        elif record_type == "config":
            for item in record.config.update:
                if item.nested_key[:2] == ["_wandb", "visualize"]:
                    run.charts[item.nested_key[2]] = json.loads(item.value_json)
                elif item.key:
                    run.config[item.key] = json.loads(item.value_json)
        elif record_type == "history":
            row = {}
            for item in record.history.item:
                *path, last = item.nested_key
                inner = row
                for key in path:
                    inner = inner.setdefault(key, {})
                inner[last] = json.loads(item.value_json)
            run.rows.append(row)
        elif record_type == "artifact":
            run.artifacts.setdefault((record.artifact.type, record.artifact.name), []).append(record.artifact)
        elif record_type == "exit":
            run.exit_code = record.exit.exit_code
    return run


def runs(folder):
    """Return the offline runs in a folder, oldest first, after waiting for the W&B process to complete them."""
    deadline = time.monotonic() + 20
    while True:
        result = [read_run(run_folder) for run_folder in sorted((folder / "wandb").glob("offline-run-*"))]
        if all(run.exit_code is not None for run in result) or time.monotonic() > deadline:
            return result
        time.sleep(0.05)


def column(run, name: str) -> dict[int, float]:
    """Return the logged values of a metric by step."""
    return {row["_step"]: row[name] for row in run.rows if name in row}


def table(run, name: str):
    """Return the columns and rows of a table, and the files of its artifact by name."""
    (logged,) = column(run, name).values()
    content = json.loads((run.folder / "files" / logged["path"]).read_text())
    for (artifact_type, _), versions in run.artifacts.items():
        files = {entry.path: Path(entry.local_path) for entry in versions[-1].manifest.contents}
        if artifact_type == "run_table" and f"{name}.table.json" in files:
            artifact_table = json.loads(files[f"{name}.table.json"].read_text())
            return content["columns"], artifact_table["data"], files
    raise AssertionError(f"no artifact contains {name}")


def clean(home, environment):
    """Return an environment without W&B settings or accounts."""
    other = {name: value for name, value in environment.items() if not name.startswith("WANDB_")}
    return other | {"HOME": str(home), "NETRC": str(home / "none")}

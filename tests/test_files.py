"""Atomic file writes and the temporary files of killed processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reidlit import files
from reidlit.files import atomic_path, atomic_write

WRITER = """
import sys, time
from pathlib import Path
from reidlit.files import atomic_path
with atomic_path(Path(sys.argv[1])) as part:
    part.write_text("half")
    print(part, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """Process that is writing `a.txt`, and its temporary file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")], stdout=subprocess.PIPE, text=True
    )
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()


def test_leftovers_of_killed_processes_are_removed(writer, tmp_path, monkeypatch):
    process, part = writer
    (tmp_path / ".b.part.txt").write_text("of somebody else")
    monkeypatch.setattr(files, "_cleaned", set())
    atomic_write(tmp_path / "b.txt", "b")
    assert Path(part).exists(), "a file that is being written was removed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.01)
    monkeypatch.setattr(files, "_cleaned", set())
    atomic_write(tmp_path / "b.txt", "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.part.txt", "b.txt"]
    assert (tmp_path / "b.txt").read_text() == "c"


def test_errors_name_the_file_that_was_to_be_written(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        atomic_write(tmp_path / "nowhere" / "a.txt", "a")
    assert error.value.filename == str(tmp_path / "nowhere" / "a.txt")
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path / "a.txt") as part:
        (part.parent).write_text("half")
    assert list(tmp_path.iterdir()) == []
